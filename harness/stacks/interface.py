# SPDX-License-Identifier: Apache-2.0
"""What the kernel knows of an interface and forgets when its driver is unbound: snapshot, and the way back.

Kept: name, MAC, MTU, up or down, addresses, routes of every table, permanent neighbours; sysctls, what ethtool sets,
RPS and XPS, flags, alternative names. What the kernel makes by itself (link-local and local entries, routes learnt from
a router) comes back by itself. What could not be put back (filters, qdiscs) is told, so that nobody takes the device.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import HostError
from harness.host.contract import Dut
from harness.host.iproute import families, ip_json
from harness.stacks.netdev_settings import differences

IFF_UP = 0x1
_SCRIPT = Path(__file__).with_name("netdev_settings.py")
#: States of a route that ``ip`` shows among its words and does not take back.
_SHOWN_ONLY = frozenset({"linkdown", "dead", "offload", "trap", "offload_failed", "rt_offload", "rt_trap"})
_FOREVER = 2**32 - 1


@dataclass(frozen=True)
class InterfaceState:
    """``addresses``, ``routes`` and ``neighbours``: the words after ``ip ... replace`` that make each of them.
    ``settings``: name -> value, as :mod:`harness.stacks.netdev_settings` lists them; ``lost``: what is set and could
    not be put back, in words.
    ``permanent``: the MAC is the device's own. Many drivers refuse to set one while the interface is up."""

    ifname: str
    mac: str
    permanent: bool
    mtu: int
    up: bool
    addresses: tuple[tuple[str, ...], ...]
    routes: tuple[tuple[str, ...], ...]
    neighbours: tuple[tuple[str, ...], ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()

    def commands(self) -> list[list[str]]:
        """What brings an interface of this name to this state, in order; each may be repeated."""
        link = ["ip", "link", "set", "dev", self.ifname]
        return [
            *([] if self.permanent else [[*link, "address", self.mac]]),
            [*link, "mtu", str(self.mtu)],
            # Some settings can only be made before it is up, others are told only afterwards.
            _settings("prepare", self.ifname, json.dumps(self.settings)),
            [*link, "up" if self.up else "down"],
            _settings("restore", self.ifname, json.dumps(self.settings)),
            *(["ip", "addr", "replace", *words] for words in self.addresses),
            *(["ip", words[0], "route", "replace", *words[1:]] for words in self.routes),
            *(["ip", "neigh", "replace", *words] for words in self.neighbours),
        ]

    def differences(self, now: InterfaceState) -> list[str]:
        """In what ``now`` is not this state, in words. Lifetimes of addresses run, so they are left out."""
        found = [f"{name} was {getattr(self, name)} and is {getattr(now, name)}" for name in ("mac", "mtu", "up")
                 if getattr(self, name) != getattr(now, name)]
        for name in ("addresses", "routes", "neighbours"):
            was, there = ({_lasting(words) for words in getattr(state, name)} for state in (self, now))
            found += [f"{name}: '{' '.join(words)}' is gone" for words in sorted(was - there)]
        return found + differences(dict(self.settings), dict(now.settings))


def snapshot(dut: Dut, ifname: str) -> InterfaceState:
    """The state of an interface. Raises HostError."""
    folder = f"/sys/class/net/{ifname}"
    settings, lost = _settings_of(dut, ifname)
    return InterfaceState(
        ifname=ifname, mac=dut.read(f"{folder}/address").strip(),
        permanent=not any("permaddr" in row for row in ip_json(dut, "link", "show", "dev", ifname)),
        mtu=int(dut.read(f"{folder}/mtu")),
        up=bool(int(dut.read(f"{folder}/flags"), 16) & IFF_UP), addresses=tuple(_addresses(dut, ifname)),
        routes=tuple(words for family in families(dut) for words in _routes(dut, ifname, family)),
        neighbours=tuple(_neighbours(dut, ifname)), settings=settings, lost=lost,
    )


def _settings(*words: str) -> list[str]:
    return ["python3", "-c", _SCRIPT.read_text(encoding="utf-8"), *words]


def _settings_of(dut: Dut, ifname: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """What the script lists. Raises HostError."""
    text = dut.run(_settings("show", ifname)).stdout
    try:
        told = json.loads(text)
        return ({str(name): str(value) for name, value in told["settings"].items()},
                tuple(str(thing) for thing in told["lost"]))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"{dut.name}: the settings of {ifname} cannot be read: {error!r}") from error


def _addresses(dut: Dut, ifname: str) -> Iterator[tuple[str, ...]]:
    for row in ip_json(dut, "addr", "show", "dev", ifname):
        for entry in row.get("addr_info", []):
            if entry.get("family") == "inet6" and (entry.get("scope") == "link" or entry.get("mngtmpaddr")):
                continue
            words = [f"{entry['local']}/{entry['prefixlen']}"]
            if "address" in entry:
                words = [str(entry["local"]), "peer", f"{entry['address']}/{entry['prefixlen']}"]
            words += [word for key, name in (("broadcast", "brd"), ("label", "label"), ("scope", "scope"))
                      if key in entry for word in (name, str(entry[key]))]
            words += ["noprefixroute"] * bool(entry.get("noprefixroute"))
            for key, name in (("valid_life_time", "valid_lft"), ("preferred_life_time", "preferred_lft")):
                if int(entry.get(key, _FOREVER)) != _FOREVER:
                    words += [name, str(entry[key])]
            yield (*words, "dev", ifname)


def _routes(dut: Dut, ifname: str, family: str) -> Iterator[tuple[str, ...]]:
    """``ip`` takes its own words back."""
    shown = dut.run(["ip", family, "route", "show", "table", "all", "dev", ifname]).stdout
    for line in shown.splitlines():
        words = [word for word in line.split() if word not in _SHOWN_ONLY]
        if not words or "expires" in words or _follow(words, "proto") in ("ra", "redirect"):
            continue
        # The kernel's own: of the local table, and (IPv6) those that come with every interface.
        if _follow(words, "table") == "local" or (family == "-6" and _follow(words, "proto") == "kernel"):
            continue
        yield (family, *words, "dev", ifname)


def _follow(words: Sequence[str], name: str) -> str:
    """The word after ``name``; "" where it is not among them."""
    return words[words.index(name) + 1] if name in words[:-1] else ""


def _neighbours(dut: Dut, ifname: str) -> Iterator[tuple[str, ...]]:
    for row in ip_json(dut, "neigh", "show", "dev", ifname, "nud", "permanent"):
        if "dst" in row and "lladdr" in row:
            yield (str(row["dst"]), "lladdr", str(row["lladdr"]), "dev", ifname, "nud", "permanent")


def _lasting(words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for before, word in zip(("", *words), words, strict=False)
                 if not {before, word} & {"valid_lft", "preferred_lft"})
