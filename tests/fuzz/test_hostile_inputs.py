# SPDX-License-Identifier: Apache-2.0
"""Hostile inputs to everything that reads what others wrote: no traceback, no hang, no growth.

``NSH_HOSTILE`` inputs over all targets (3,000), made by ``NSH_SEED`` (printed). ``make soak`` runs 100,000.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import tracemalloc
import zlib
from pathlib import Path
from types import FrameType

import pytest

from tests.fuzz import campaign
from tests.fuzz.mutate import long_runs, mutated
from tests.fuzz.targets import FOUND, KNOWN, Target, slug, targets
from tests.soak import keep

INPUTS = int(os.environ.get("NSH_HOSTILE", "3000"))
SEED = int(os.environ.get("NSH_SEED", "0")) or random.SystemRandom().randrange(1, 2**31)
#: No input of these sizes takes a second; what takes this long does not end.
_HANG_S = 20
#: An answer of a host may be 1 MiB; in a fifth of that, what takes a time that grows with the square is seen to hang.
_LONG = 200_000
#: What a target may keep for good after its inputs (caches of patterns and the like), bytes.
_MOST_KEPT = 3_000_000


class Hangs(Exception):
    """An input that was not read in time."""


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise Hangs


def attack(target: Target, count: int) -> tuple[int, int]:
    """Read ``count`` hostile inputs; (how many were refused, bytes of memory kept). AssertionError with the input."""
    refused, kept = 0, 0
    for number, data in enumerate(mutated(target.good, count, SEED ^ zlib.crc32(target.name.encode()))):
        if number == count // 2:
            gc.collect()
            kept = -tracemalloc.get_traced_memory()[0]
        signal.alarm(_HANG_S)
        try:
            target.read(data)
        except target.errors:
            refused += 1
        except Hangs:
            raise AssertionError(f"{target.name}: seed {SEED}, input {number} hangs: {data[:2000]!r}") from None
        except Exception as error:
            raise AssertionError(f"{target.name}: seed {SEED}, input {number}: {error!r} of {data[:2000]!r}") from error
        finally:
            signal.alarm(0)
    gc.collect()
    return refused, kept + tracemalloc.get_traced_memory()[0]


def test_nothing_that_is_read_ends_in_a_traceback_a_hang_or_growth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    everything = targets(tmp_path)
    assert all(issubclass(error, KNOWN) for target in everything for error in target.errors)
    total, before = sum(target.share for target in everything), signal.signal(signal.SIGALRM, _hang)
    figures: dict[str, dict[str, int]] = {}
    with capsys.disabled():  # also of a test that passes: a run in CI can be made again
        print(f"\n  seed {SEED}, {INPUTS} inputs", flush=True)
    tracemalloc.start()
    try:
        for target in everything:
            count = max(2, -(-INPUTS * target.share // total))
            refused, kept = attack(target, count)
            print(f"{target.name}: {count} inputs, {refused} refused, {kept} bytes kept")
            assert kept < _MOST_KEPT, f"{target.name} keeps {kept} bytes"
            if target.errors:
                assert refused, f"{target.name} refuses nothing"
            figures[target.name] = {"inputs": count, "refused": refused}
    finally:
        tracemalloc.stop()
        signal.signal(signal.SIGALRM, before)
    read = sum(figure["inputs"] for figure in figures.values())
    keep("hostile-inputs", {"seed": SEED, "inputs": read, "tracebacks": 0, "hangs": 0, "targets": figures})


def test_long_runs_are_read_in_time(tmp_path: Path) -> None:
    """No parser of text looks at the whole input again from every byte of it."""
    before = signal.signal(signal.SIGALRM, _hang)
    try:
        for target in (one for one in targets(tmp_path) if one.share >= 4 or "survey" in one.name):
            for data in long_runs(target.good, _LONG):
                signal.alarm(_HANG_S)
                try:
                    target.read(data)
                except target.errors:
                    continue
                except Hangs:
                    raise AssertionError(f"{target.name} hangs on {len(data):,} bytes: {data[:200]!r}…") from None
                finally:
                    signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_guided_fuzzing_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert campaign.main(["--seconds", "1"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_what_was_found_once_is_read(tmp_path: Path) -> None:
    """Inputs that `make fuzz` has found (tests/fuzz/found): read, or refused as the target may."""
    known = {slug(target.name): target for target in targets(tmp_path)}
    folders = {folder.name for folder in FOUND.glob("*")}
    assert folders <= known.keys(), f"of no target: {folders - known.keys()}"
    for target in known.values():
        for data in target.found():
            try:
                target.read(data)
            except target.errors:
                continue


def test_good_inputs_are_read(tmp_path: Path) -> None:
    for target in targets(tmp_path):
        for data in target.good:
            try:
                target.read(data)
            except target.errors as error:
                pytest.fail(f"{target.name}: {error!r}")
