# SPDX-License-Identifier: Apache-2.0
"""Where the files beside the code are: in a checkout at its top level, in a wheel under the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """Top level of the source checkout this package runs from, or None when it is installed from a wheel."""
    top = _PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() and (top / "stacks").is_dir() else None


def resource(name: str) -> Path:
    """Directory ``name`` ("scenarios", "stacks", "reports/templates", "reports/static") with the shipped files.

    Raises FileNotFoundError when neither the checkout nor the wheel has it: the installation is broken.
    """
    top = checkout()
    path = top / name if top is not None else _PACKAGE / ("stacks" if name == "stacks" else f"resources/{name}")
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: shipped files are missing; reinstall netstack-harness")
    return path
