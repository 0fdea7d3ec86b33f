# SPDX-License-Identifier: Apache-2.0
"""What the subcommands share: options by the same name everywhere, JSON out, how a signal ends one."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from harness.texttable import plain

if TYPE_CHECKING:
    from harness.records import Check

FILE = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
results_option = click.option("--results", type=FILE, default=Path("results"), show_default=True, metavar="DIR",
                              help="Directory of the runs.")


def one_line(text: object, limit: int = 400) -> str:
    """Text of a file on one line for a terminal: control characters are shown as ?."""
    shown = "".join(c if c.isprintable() else "?" for c in " ".join(str(text).split()))
    return shown if len(shown) <= limit else shown[:limit - 1] + "…"


def say(text: str) -> None:
    """What is under way, on standard error: it may quote a host."""
    click.echo(plain(text, lines=True), err=True)


def print_json(data: Any) -> None:
    """JSON on standard output."""
    click.echo(json.dumps(data, indent=1))


def print_checks(checks: Sequence[Check], *, as_json: bool) -> int:
    """Checks as text or JSON; the exit code: that of a testbed that is not fit where one of them failed."""
    from harness.doctor.text import checks_text
    from harness.errors import TestbedError

    code = TestbedError.exit_code if any(check.status == "fail" for check in checks) else 0
    if as_json:
        print_json({"checks": [check.model_dump() for check in checks], "exit_code": code,
                    "counts": dict(Counter(check.status for check in checks))})
    else:
        click.echo(checks_text(checks))
    return code


def interrupt_on_termination() -> None:
    """TERM and HUP end a command as Ctrl-C does: everything is undone first."""
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


def write_file(path: Path, text: str) -> None:
    """Write a file that the user named, and the folders it is to be in, and say so. Raises UsageError."""
    from harness.store import write_atomically

    write_with(path, lambda: write_atomically(path, text))


def write_with(path: Path, write: Callable[[], None]) -> None:
    """The same for a file that ``write`` writes, which may raise OSError."""
    from harness.store import write_named

    write_named(path, write)
    click.echo(f"written: {path}", err=True)
