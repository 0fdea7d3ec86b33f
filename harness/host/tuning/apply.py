# SPDX-License-Identifier: Apache-2.0
"""A profile on a host: snapshot, apply, verify, and after the point restore and verify, item by item."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType

from harness.errors import HostError, HostNotRestored, StackError
from harness.host.tuning import ethtool, power, steering
from harness.host.tuning.change import Change, Item, Target, file_change
from harness.host.tuning.profile import Profile


def sysctls(target: Target, wanted: Mapping[str, str]) -> Iterator[Change]:
    """Settings of the network stack."""
    for name, value in wanted.items():
        yield file_change("sysctls", target.dut, f"/proc/sys/{name.replace('.', '/')}", value)


#: How each item of a profile is applied, by its name.
ITEMS: Mapping[str, Item] = MappingProxyType({
    "rss_queues": ethtool.rss_queues, "rss_hash": ethtool.rss_hash, "rps": steering.rps, "rfs": steering.rfs,
    "xps": steering.xps, "irqbalance": steering.irqbalance, "threaded_napi": steering.threaded_napi,
    "rings": ethtool.rings, "coalesce_us": ethtool.coalesce, "gro": partial(ethtool.offload, "gro"),
    "lro": partial(ethtool.offload, "lro"), "tso": partial(ethtool.offload, "tso"),
    "pause_frames": ethtool.pause_frames, "governor": power.governor, "turbo": power.turbo,
    "idle_latency_us": power.idle_latency, "sysctls": sysctls,
})


@contextmanager
def tuned(target: Target, profile: Profile) -> Iterator[tuple[Change, ...]]:
    """Apply a profile; on exit everything is put back, and read back, at last the cores and the scheduling of the
    ports' NAPI threads, which may be others by then. Yields every change with what came of it.

    Raises StackError when an item does not verify, or a required one is unsupported: what was applied is undone.
    Raises HostNotRestored when the host does not come back."""
    if strangers := profile.strangers(target.ports):
        raise StackError(f"tuning of {target.dut.name}: {', '.join(strangers)}: no test port of this point, whose "
                         f"ports are {', '.join(target.ports) or 'not known to the kernel'}; nothing was changed")
    changes: list[Change] = []
    with _restored(target, changes):
        try:
            for ifname in target.ports:  # whoever makes queues anew below, an item or a stack
                target.dut.keep_napi(ifname)
            for name, wanted in profile.items().items():
                made = list(ITEMS[name](target, wanted))
                changes += made
                _refuse_missing(target, profile, name, made)
        except HostError as error:
            raise StackError(f"tuning of {target.dut.name}: {error}") from error
        yield tuple(changes)


@contextmanager
def _restored(target: Target, changes: list[Change]) -> Iterator[None]:
    """Undo on exit, and read back. What ended the undoing itself (Ctrl-C) is not told as what it left: the end of the
    connection undoes that."""
    mark = target.dut.undo_mark()
    try:
        yield
    finally:
        target.dut.undo_to(mark)
        _verify_restored(target, changes)


def _refuse_missing(target: Target, profile: Profile, item: str, changes: list[Change]) -> None:
    missing = [f"{change.target}: {change.reason}" for change in changes if change.status == "unsupported"]
    if missing and profile.requires(item):
        raise StackError(f"tuning of {target.dut.name}: {item} is required and cannot be done ({'; '.join(missing)}); "
                         "take it out of required, or choose a host that can")


def _verify_restored(target: Target, changes: list[Change]) -> None:
    """Undo has run; the first change of a setting tells what it has to be again."""
    first: dict[tuple[str, str], Change] = {}
    for change in changes:
        if change.status == "applied":
            first.setdefault((change.item, change.target), change)
    wrong = []
    for change in first.values():
        assert change.read is not None  # applied changes have it
        try:
            now = change.read()
        except HostError as error:
            now = f"unreadable: {error}"
        if now != change.before:
            wrong.append(f"{change.item} of {change.target} was {change.before!r} and is {now!r} now")
    if wrong:
        raise HostNotRestored(f"{target.dut.name} is not as it was: {'; '.join(wrong)}")
