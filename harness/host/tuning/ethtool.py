# SPDX-License-Identifier: Apache-2.0
"""NIC settings through ``ethtool``: queues, RSS, rings, coalescing, offloads, pause frames.

Its listings are read as text: JSON is there for a few of them only, and only in newer versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial

from harness.errors import HostError
from harness.host.contract import Dut
from harness.host.tuning.change import Change, Target, made, unsupported

_SETTING = re.compile(r"^[ \t]*([A-Za-z][A-Za-z0-9 _-]*?):[ \t]*(\S+)", re.M)
_FLAGS = {"addresses": "sd", "ports": "sdfn"}
_FEATURES = {"gro": "generic-receive-offload", "lro": "large-receive-offload", "tso": "tcp-segmentation-offload"}
_MOST_ENTRIES = 1 << 12


def parse_maxima(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """(maxima, current) of ``ethtool -l`` or ``-g``: name in lower case -> number; what is n/a is left out."""
    most, _, current = text.partition("Current hardware settings")
    return _numbers(most), _numbers(current)


def _numbers(text: str) -> dict[str, int]:
    return {name.lower(): int(value) for name, value in _SETTING.findall(text) if value.isdigit()}


def parse_words(text: str) -> dict[str, str]:
    """``name: word`` lines of ``ethtool -k``, ``-a`` and ``-c``; of "Adaptive RX: off  TX: off" both."""
    words = {name.lower(): value for name, value in _SETTING.findall(text)}
    adaptive = re.search(r"^Adaptive RX: (\S+)\s+TX: (\S+)", text, re.M)
    if adaptive:
        words["adaptive-rx"], words["adaptive-tx"] = adaptive.groups()
    return words


def parse_indirection(text: str) -> list[int]:
    """The receive queue of each entry of ``ethtool -x``."""
    entries = [int(queue) for line in re.findall(r"^\s*\d+:((?:\s+\d+)+)\s*$", text, re.M) for queue in line.split()]
    return entries[:_MOST_ENTRIES]


class Nic:
    """One port's settings. Every ``ethtool`` call that sets is on the journal with its opposite."""

    def __init__(self, dut: Dut, ifname: str) -> None:
        self.dut, self.ifname = dut, ifname

    def show(self, option: str, *words: str) -> str:
        """Output of a listing. Raises HostError where the driver has no such thing."""
        return self.dut.run(["ethtool", option, self.ifname, *words]).stdout

    def set(self, option: str, new: Mapping[str, str], old: Mapping[str, str]) -> None:
        """Set, journalled with the way back."""
        self.dut.apply(["ethtool", option, self.ifname, *_flat(new)], ["ethtool", option, self.ifname, *_flat(old)])


def _flat(pairs: Mapping[str, str]) -> list[str]:
    return [word for pair in pairs.items() for word in pair]


def _shown(pairs: Mapping[str, str]) -> str:
    return " ".join(_flat(pairs))


def _change(item: str, nic: Nic, show: str, change: str, wanted: Mapping[str, str], keys: Mapping[str, str]) -> Change:
    """Bring settings to ``wanted`` (words of the command that sets them); ``keys``: those words -> names in the
    listing."""
    def now() -> dict[str, str]:
        listing = nic.show(show)
        words = parse_words(listing.partition("Current hardware settings")[2] or listing)
        missing = [name for name in keys.values() if words.get(name, "n/a") == "n/a"]
        if missing:
            raise HostError(f"the driver does not tell {', '.join(missing)}")
        return {word: words[name] for word, name in keys.items()}

    try:
        old = now()
    except HostError as error:
        return unsupported(item, nic.ifname, str(error))
    return made(item, nic.ifname, _shown(wanted), lambda: _shown(now()), lambda: nic.set(change, wanted, old))


def rss_queues(target: Target, wanted: str) -> Iterator[Change]:
    """As many combined queues as cores, and the indirection table spread equally over them."""
    for ifname in target.ports:
        nic, count = Nic(target.dut, ifname), len(target.cores)
        try:
            most, _ = parse_maxima(nic.show("-l"))
        except HostError as error:
            yield unsupported("rss_queues", ifname, str(error))
            continue
        if "combined" not in most:
            yield unsupported("rss_queues", ifname, "the driver has no combined queues, so no RSS over them")
        elif most["combined"] < count:
            yield unsupported("rss_queues", ifname, f"it has {most['combined']} queues, fewer than {count} cores")
        else:
            yield _change("rss_queues", nic, "-l", "-L", {"combined": str(count)}, {"combined": "combined"})
            yield _spread(nic, count)


def _spread(nic: Nic, count: int) -> Change:
    """``ethtool -X equal``. A table that is not the default one could not be put back, so it is left alone."""
    def table() -> str:
        return " ".join(map(str, parse_indirection(nic.show("-x"))))

    try:
        before = parse_indirection(nic.show("-x"))
    except HostError as error:
        return unsupported("rss_indirection", nic.ifname, str(error))
    wanted = [entry % count for entry in range(len(before))]
    queues = max(before, default=0) + 1
    if before != wanted and before != [entry % queues for entry in range(len(before))]:
        return unsupported("rss_indirection", nic.ifname, "its table was set by hand and could not be put back; "
                                                          f"`ethtool -X {nic.ifname} default` resets it")
    change = partial(nic.dut.apply, ["ethtool", "-X", nic.ifname, "equal", str(count)],
                     ["ethtool", "-X", nic.ifname, "default"])
    return made("rss_indirection", nic.ifname, " ".join(map(str, wanted)), table, change)


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
    """Interrupts of a queue at least so many microseconds apart, adaptive coalescing off."""
    for ifname in target.ports:
        nic = Nic(target.dut, ifname)
        try:
            known = parse_words(nic.show("-c"))
        except HostError as error:
            yield unsupported("coalesce_us", ifname, str(error))
            continue
        sizes = {"rx-usecs": str(wanted), "tx-usecs": str(wanted), "adaptive-rx": "off", "adaptive-tx": "off"}
        sizes = {name: value for name, value in sizes.items() if known.get(name, "n/a") != "n/a"}
        yield _change("coalesce_us", nic, "-c", "-C", sizes, {name: name for name in sizes})


def offload(item: str, target: Target, wanted: bool) -> Iterator[Change]:
    """GRO, LRO or TSO."""
    for ifname in target.ports:
        name = _FEATURES[item]
        yield _change(item, Nic(target.dut, ifname), "-k", "-K", {item: "on" if wanted else "off"}, {item: name})


def pause_frames(target: Target, wanted: bool) -> Iterator[Change]:
    """Ethernet flow control in both directions, autonegotiation of it off."""
    for ifname in target.ports:
        state = "on" if wanted else "off"
        yield _change("pause_frames", Nic(target.dut, ifname), "-a", "-A",
                      {"autoneg": "off", "rx": state, "tx": state},
                      {"autoneg": "autonegotiate", "rx": "rx", "tx": "tx"})
