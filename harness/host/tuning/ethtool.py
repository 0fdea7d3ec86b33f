# SPDX-License-Identifier: Apache-2.0
"""NIC settings through ``ethtool``: queues, RSS, rings, coalescing, offloads, pause frames.

Its listings are read as text: JSON is there for a few of them only, and only in newer versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from harness.errors import HostError
from harness.host.contract import Dut
from harness.host.tuning.change import Change, Target, made, unsupported

_SETTING = re.compile(r"^[ \t]*([A-Za-z][A-Za-z0-9 _-]*?):[ \t]*(\S+)", re.M)
_ENTRIES = r"^[ \t]*\d{1,9}:((?:[ \t]+\d{1,9})+)[ \t]*$"
_FLAGS = {"addresses": "sd", "ports": "sdfn"}
_FEATURES = {"gro": "generic-receive-offload", "lro": "large-receive-offload", "tso": "tcp-segmentation-offload"}
_MOST_ENTRIES = 1 << 12
#: Options that make a driver's queues anew.
_RENEWING = ("-L", "-G")
_PLACEMENT = Path(__file__).with_name("placement.py")


def parse_maxima(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """(maxima, current) of ``ethtool -l`` or ``-g``: name in lower case -> number; what is n/a is left out."""
    most, _, current = text.partition("Current hardware settings")
    return _numbers(most), _numbers(current)


def _numbers(text: str) -> dict[str, int]:
    return {name.lower(): int(value) for name, value in _SETTING.findall(text) if re.fullmatch(r"\d{1,15}", value)}


def parse_words(text: str) -> dict[str, str]:
    """``name: word`` lines of ``ethtool -k``, ``-a`` and ``-c``; of "Adaptive RX: off  TX: off" both."""
    words = {name.lower(): value for name, value in _SETTING.findall(text)}
    adaptive = re.search(r"^Adaptive RX: (\S+)\s+TX: (\S+)", text, re.M)
    if adaptive:
        words["adaptive-rx"], words["adaptive-tx"] = adaptive.groups()
    return words


def parse_indirection(text: str) -> list[int]:
    """The receive queue of each entry of ``ethtool -x``."""
    entries = [int(queue) for line in re.findall(_ENTRIES, text, re.M) for queue in line.split()]
    return entries[:_MOST_ENTRIES]


class Nic:
    """One port's settings. Every ``ethtool`` call that sets is on the journal with its opposite."""

    def __init__(self, dut: Dut, ifname: str) -> None:
        self.dut, self.ifname = dut, ifname

    def show(self, option: str, *words: str) -> str:
        """Output of a listing. Raises HostError where the driver has no such thing."""
        return self.dut.run(["ethtool", option, self.ifname, *words]).stdout

    def set(self, option: str, new: Mapping[str, str], old: Mapping[str, str]) -> None:
        """Set, journalled with the way back. Where the driver may make the queues anew, the cores that they and their
        interrupts are served on stay, those of queues that go come back with them."""
        command = ["ethtool", option, self.ifname]
        if option not in _RENEWING:
            self.dut.apply([*command, *_flat(new)], [*command, *_flat(old)])
            return
        script = ["python3", "-c", _PLACEMENT.read_text(encoding="utf-8")]
        restore = [*script, "restore", "/", self.ifname, self.dut.run([*script, "show", "/", self.ifname]).stdout]
        self.dut.apply(["true"], restore)
        self.dut.apply([*command, *_flat(new)], [*command, *_flat(old)])
        self.dut.run(restore, check=False)  # says which queues are gone


def _flat(pairs: Mapping[str, str]) -> list[str]:
    return [word for pair in pairs.items() for word in pair]


def _shown(pairs: Mapping[str, str]) -> str:
    return " ".join(_flat(pairs))


def _settings(nic: Nic, show: str, keys: Mapping[str, str]) -> dict[str, str]:
    """Settings as a listing tells them; ``keys``: words of the command that sets them -> names in the listing."""
    listing = nic.show(show)
    words = parse_words(listing.partition("Current hardware settings")[2] or listing)
    missing = [name for name in keys.values() if words.get(name, "n/a") == "n/a"]
    if missing:
        raise HostError(f"the driver does not tell {', '.join(missing)}")
    return {word: words[name] for word, name in keys.items()}


def _change(item: str, nic: Nic, show: str, change: str, wanted: Mapping[str, str], keys: Mapping[str, str]) -> Change:
    """Bring settings to ``wanted``; ``keys`` as in :func:`_settings`."""
    try:
        old = _settings(nic, show, keys)
    except HostError as error:
        return unsupported(item, nic.ifname, str(error))
    return made(item, nic.ifname, _shown(wanted), lambda: _shown(_settings(nic, show, keys)),
                lambda: nic.set(change, wanted, old))


def rss_queues(target: Target, wanted: str) -> Iterator[Change]:
    """As many combined queues as cores, and the indirection table spread equally over them."""
    for ifname in target.ports:
        nic, count = Nic(target.dut, ifname), len(target.cores)
        try:
            most, now = parse_maxima(nic.show("-l"))
        except HostError as error:
            yield unsupported("rss_queues", ifname, str(error))
            continue
        if "combined" not in most or "combined" not in now:
            yield unsupported("rss_queues", ifname, "the driver has no combined queues, so no RSS over them")
        elif most["combined"] < count:
            yield unsupported("rss_queues", ifname, f"it has {most['combined']} queues, fewer than {count} cores")
        else:
            yield from _spread(nic, now["combined"], count)


def _spread(nic: Nic, channels: int, count: int) -> Iterator[Change]:
    """``ethtool -L`` and ``-X equal``. The kernel refuses fewer queues than a table set by hand refers to, so the table
    comes first where they get fewer; undoing is in the reverse order. What is neither the default table nor one made by
    ``equal`` could not be put back, and new queues may reset it: both are left alone."""
    def table() -> list[int]:
        return parse_indirection(nic.show("-x"))

    def queues() -> Change:
        return _change("rss_queues", nic, "-l", "-L", {"combined": str(count)}, {"combined": "combined"})

    def spread() -> Change:
        return made("rss_indirection", nic.ifname, _entries(_equal(len(before), count)), lambda: _entries(table()),
                    lambda: nic.dut.apply(_equally(nic, count), undo))

    try:
        before = table()
    except HostError as error:
        yield from (queues(), unsupported("rss_indirection", nic.ifname, str(error)))
        return
    width = max(before, default=0) + 1
    undo = _equally(nic, width) if width < min(channels, len(before)) else ["ethtool", "-X", nic.ifname, "default"]
    if before != _equal(len(before), width):
        reason = f"its table was set by hand and could not be put back; `ethtool -X {nic.ifname} default` resets it"
        yield from (unsupported(item, nic.ifname, reason) for item in ("rss_queues", "rss_indirection"))
    elif count > channels:
        yield from (queues(), spread())
    else:
        yield spread()
        yield queues()
        if count > 1 and table() != _equal(len(before), count):  # made anew with the queues
            nic.dut.apply(_equally(nic, count), ["true"])
            if table() != _equal(len(before), count):
                raise HostError(f"the indirection table of {nic.ifname} is not spread over {count} queues")


def _equally(nic: Nic, count: int) -> list[str]:
    return ["ethtool", "-X", nic.ifname, "equal", str(count)]


def _equal(entries: int, queues: int) -> list[int]:
    return [entry % queues for entry in range(entries)]


def _entries(table: list[int]) -> str:
    return " ".join(map(str, table))


def rss_hash(target: Target, wanted: str) -> Iterator[Change]:
    """Fields that RSS hashes UDP by, for IPv4 and IPv6."""
    for ifname in target.ports:
        for flow in ("udp4", "udp6"):
            yield _hash(Nic(target.dut, ifname), flow, wanted)


def parse_hash(text: str) -> str:
    """"ports" or "addresses" of ``ethtool -n DEV rx-flow-hash udp4``; the text itself if it is neither."""
    fields = {line.strip() for line in text.splitlines()}
    address = {"IP SA", "IP DA"} <= fields
    ports = {"L4 bytes 0 & 1 [TCP/UDP src port]", "L4 bytes 2 & 3 [TCP/UDP dst port]"} <= fields
    return "ports" if address and ports else "addresses" if address else text.strip()


def _hash(nic: Nic, flow: str, wanted: str) -> Change:
    item, name = "rss_hash", f"{nic.ifname} {flow}"

    def read() -> str:
        return parse_hash(nic.show("-n", "rx-flow-hash", flow))

    try:
        before = read()
    except HostError as error:
        return unsupported(item, name, str(error))
    if before not in _FLAGS:
        return unsupported(item, name, f"it hashes by {before!r}, which could not be put back")
    command = ["ethtool", "-N", nic.ifname, "rx-flow-hash", flow]
    return made(item, name, wanted, read,
                lambda: nic.dut.apply([*command, _FLAGS[wanted]], [*command, _FLAGS[before]]))


def rings(target: Target, wanted: int | str) -> Iterator[Change]:
    """Descriptors of the receive and transmit rings; ``max``: as many as the driver allows."""
    for ifname in target.ports:
        nic = Nic(target.dut, ifname)
        try:
            most, _ = parse_maxima(nic.show("-g"))
        except HostError as error:
            yield unsupported("rings", ifname, str(error))
            continue
        known = [name for name in most if name in ("rx", "tx")]
        sizes = {name: str(most[name] if wanted == "max" else wanted) for name in known}
        yield _change("rings", nic, "-g", "-G", sizes, {name: name for name in known})


def coalesce(target: Target, wanted: int) -> Iterator[Change]:
    """Interrupts of a queue at least so many microseconds apart, adaptive coalescing off.

    One setting a call, adaptive ones first: drivers refuse a whole call for one setting of it (ixgbe: tx-usecs, where a
    vector serves both directions), and some change usecs only while adaptive is off (i40e, iavf, ice), which undoing in
    the reverse order keeps to as well."""
    settings = {"adaptive-rx": "off", "adaptive-tx": "off", "rx-usecs": str(wanted), "tx-usecs": str(wanted)}
    for ifname in target.ports:
        nic = Nic(target.dut, ifname)
        try:
            known = parse_words(nic.show("-c"))
        except HostError as error:
            yield unsupported("coalesce_us", ifname, str(error))
            continue
        told = [name for name in settings if known.get(name, "n/a") != "n/a"]
        if not told:
            yield unsupported("coalesce_us", ifname, "the driver does not tell its coalescing")
        for name in told:
            yield _coalesce(nic, name, settings[name], known[name])


def _coalesce(nic: Nic, name: str, wanted: str, old: str) -> Change:
    """``old``: before any of the settings was changed; switching adaptive may change usecs as well (mlx5)."""
    command = ["ethtool", "-C", nic.ifname, name]
    undo = ["true"] if old == wanted else [*command, old]  # ethtool fails where nothing changes
    change = made("coalesce_us", f"{nic.ifname} {name}", f"{name} {wanted}",
                  lambda: _shown(_settings(nic, "-c", {name: name})), lambda: nic.dut.apply([*command, wanted], undo))
    return replace(change, before=f"{name} {old}") if change.status == "applied" else change


def offload(item: str, target: Target, wanted: bool) -> Iterator[Change]:
    """GRO, LRO or TSO."""
    for ifname in target.ports:
        name = _FEATURES[item]
        yield _change(item, Nic(target.dut, ifname), "-k", "-K", {item: "on" if wanted else "off"}, {item: name})


def pause_frames(target: Target, wanted: bool) -> Iterator[Change]:
    """Ethernet flow control in both directions."""
    for ifname in target.ports:
        yield _pause(Nic(target.dut, ifname), "on" if wanted else "off")


def _pause(nic: Nic, state: str) -> Change:
    """Without autonegotiation of it only where that is needed: some drivers refuse to turn that off (i40e, ice), others
    take nothing else while it is on."""
    item, keys = "pause_frames", {"autoneg": "autonegotiate", "rx": "rx", "tx": "tx"}
    wanted = {"rx": state, "tx": state}
    refused, command = "", ["ethtool", "-A", nic.ifname]
    try:
        before = now = _settings(nic, "-a", keys)
    except HostError as error:
        return unsupported(item, nic.ifname, str(error))
    if before == before | wanted:
        return Change(item, nic.ifname, _shown(before), _shown(before), "already")
    undo = [*command, *_flat(before)]
    for new in (wanted, {"autoneg": "off", **wanted}):
        try:
            nic.dut.apply([*command, *_flat(new)], undo)
        except HostError as error:
            refused = str(error)
            continue
        undo = ["true"]  # once: ethtool fails where nothing changes
        now = _settings(nic, "-a", keys)
        if now == now | wanted:
            return Change(item, nic.ifname, _shown(before), _shown(now), "applied",
                          read=lambda: _shown(_settings(nic, "-a", keys)))
    if refused:
        return unsupported(item, nic.ifname, refused)
    raise HostError(f"{item} of {nic.ifname} was set to {_shown(wanted)!r} and reads back {_shown(now)!r}")
