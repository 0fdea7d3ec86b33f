# SPDX-License-Identifier: Apache-2.0
"""Coverage-guided fuzzing of every target, one after the other, each for the same time: ``make fuzz SECONDS=600``.

    python -m tests.fuzz.campaign --seconds 600 [--only "scenario file"] [--corpus DIR]

Prints a line a target: executions, edges of the instrumented code that the good inputs (and those of the corpus) reach
and that were reached at the end, inputs kept, and what was found. An input that was not read as a target must is put
into ``tests/fuzz/found``, where the tests read it from then on. Status: 0, 1 (found something), 2 (Atheris is not
there).
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.targets import FOUND, Target, slug, targets
from tests.soak import keep

MISSING = ("Atheris is not installed: .venv/bin/pip install -e '.[fuzz]'\n(PyPI has it built for CPython 3.11 to 3.13 "
           "on x86-64 Linux; elsewhere pip builds it and needs clang with libFuzzer.)\n`make test` fuzzes without it.")
#: No input takes a second, and no target needs half a GiB: beyond these it hangs, or grows.
_HANG_S, _MOST_MB = 20, 1500
#: Longest that a target takes to start and to read its corpus, beside its time.
_START_S = 300
#: A target that is one regular expression reaches no instrumented code, and has no "cov".
_PROGRESS = re.compile(r"^#\d+\s+(\w+)\s+(?:cov: (\d+) ft: \d+ )?corp: (\d+)/", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What fuzzing one target came to. ``edges``: of instrumented code, at the start and at the end. ``why``: what was
    said of what was found."""

    executions: int
    edges: tuple[int, int]
    inputs: int
    peak_mb: int
    found: tuple[Path, ...]
    why: str


def attack(target: Target, seconds: int, corpus: Path) -> Outcome:
    """Fuzz one target in a process of its own; ``corpus``: where inputs are kept that reach new code."""
    seeds = corpus.with_name(corpus.name + ".good")
    for folder in (corpus, seeds):
        folder.mkdir(parents=True, exist_ok=True)
    for data in (*target.good, *target.found()):
        (seeds / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    with tempfile.TemporaryDirectory(prefix="nsh-found-") as place:
        argv = [sys.executable, "-m", "tests.fuzz.guided", target.name, str(corpus), str(seeds),
                f"-max_total_time={seconds}", f"-timeout={_HANG_S}", f"-rss_limit_mb={_MOST_MB}",
                f"-artifact_prefix={place}/", "-print_final_stats=1"]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False,
                              timeout=seconds + _START_S)
        said = done.stdout + done.stderr
        steps, files = _PROGRESS.findall(said), sorted(Path(place).iterdir())
        if not steps or (done.returncode and not files):
            raise RuntimeError(f"{target.name}: status {done.returncode}:\n{said[-3000:]}")
        found = tuple(_kept(target, file) for file in files)
    first = next((step for step in steps if step[0] == "INITED"), steps[0])
    edges = int(first[1] or 0), int(steps[-1][1] or 0)
    return Outcome(_stat(said, "number_of_executed_units"), edges, int(steps[-1][2]), _stat(said, "peak_rss_mb"), found,
                   _why(said))


def _why(said: str) -> str:
    """What libFuzzer and Atheris say of an input that was not read as it must; without their progress."""
    told = re.search(r"^ *=== Uncaught Python exception|^==\d+== *ERROR|^ALARM:", said, re.MULTILINE)
    return "\n".join(line[:300] for line in said[told.start():].splitlines()[:60] if not line.startswith("#")) if told \
        else ""


def _stat(said: str, name: str) -> int:
    found = re.search(rf"^stat::{name}:\s*(\d+)", said, re.MULTILINE)
    return int(found[1]) if found else 0


def _kept(target: Target, file: Path) -> Path:
    """The input among those that the tests read."""
    place = FOUND / slug(target.name) / file.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(file.read_bytes())
    return place


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz, print, and keep the figures where ``NSH_SOAK_DIR`` says."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--only", action="append", default=[], help="a target's name; may be repeated")
    parser.add_argument("--corpus", type=Path, help="folder that keeps what was reached, for the next time")
    arguments = parser.parse_args(argv)
    if importlib.util.find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 2
    figures, found = dict[str, dict[str, int]](), list[Path]()
    with ExitStack() as owned:
        folder, kept = (Path(owned.enter_context(tempfile.TemporaryDirectory(prefix="nsh-fuzz-"))) for _ in range(2))
        chosen = [target for target in targets(folder) if not arguments.only or target.name in arguments.only]
        seconds = max(1, arguments.seconds // max(1, len(chosen)))
        for target in chosen:
            outcome = attack(target, seconds, (arguments.corpus or kept).resolve() / slug(target.name))
            figures[target.name] = {"executions": outcome.executions, "edges_at_start": outcome.edges[0],
                                    "edges": outcome.edges[1], "corpus": outcome.inputs, "peak_mb": outcome.peak_mb}
            print(f"{target.name}: {outcome.executions:,} executions, edges {outcome.edges[0]:,} at the start, "
                  f"{outcome.edges[1]:,} at the end, {outcome.inputs:,} inputs kept, {outcome.peak_mb} MB", flush=True)
            if outcome.found:
                found += outcome.found
                print(outcome.why, *outcome.found, sep="\n", flush=True)
    executions = sum(figure["executions"] for figure in figures.values())
    print(f"{executions:,} executions, {len(found)} inputs found that are not read as they must")
    if not found and figures and not arguments.only:
        keep("guided-inputs", {"seconds": seconds * len(figures), "executions": executions, "found": 0,
                               "targets": figures})
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
