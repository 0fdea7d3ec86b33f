# SPDX-License-Identifier: Apache-2.0
"""One target of :mod:`tests.fuzz.targets` under Atheris: inputs that reach new code are kept and changed further.

    python -m tests.fuzz.guided "scenario file" CORPUS [options of libFuzzer]

Ends with libFuzzer's status: 0 when its time is over, else with the input in a file ``crash-…``, ``timeout-…`` or
``oom-…``. The code of harness and stacks is instrumented; regular expressions, pydantic's core and libyaml are not
Python and are not. (Atheris 3.0's hook for regular expressions fails on patterns of bytes.)
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import atheris

from tests.fuzz.mutate import MOST_BYTES, neighbour

with atheris.instrument_imports(include=["harness", "stacks"]):
    from tests.fuzz.targets import Target, targets


def fuzz(target: Target, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""

    def read(data: bytes) -> None:
        try:
            target.read(data)
        except target.errors:
            return

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        """Every other input is libFuzzer's own idea, which knows what comparisons have seen; the rest are ours, which
        know what such files are made of."""
        if seed % 2:
            return bytes(atheris.Mutate(data, len(data)))[:most]
        return neighbour(data, target.good, random.Random(seed))[:most]

    atheris.Setup([sys.argv[0], f"-max_len={MOST_BYTES}", *options], read, custom_mutator=mutate)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the target that the command line names."""
    name, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="nsh-fuzz-") as folder:
        known = {target.name: target for target in targets(Path(folder))}
        if name not in known:
            sys.exit(f"there is no target {name!r}; there are: {', '.join(known)}")
        fuzz(known[name], options)


if __name__ == "__main__":
    main()
