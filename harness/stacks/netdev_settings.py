# SPDX-License-Identifier: Apache-2.0
"""Settings of an interface that the kernel forgets when its driver is unbound: listed, and put back. Runs on the DUT.

The agent's journal holds this text, for ``python3 -c``: an undo needs nothing but Python, may run twice, changes only
what differs, and verifies what it did. Standard library only, Python 3.6 syntax.

Arguments: "show" and an interface: JSON {"settings": {name: value}, "lost": [what could not be put back]} on stdout.
"restore", an interface and such settings: status 0 when they hold. "prepare": the same before the interface is up, when
not every driver does or tells everything: status 0 in any case.
"""

import json
import os
import re
import subprocess
import sys

PROC, NET = "/proc/sys/net", "/sys/class/net"
#: Folders of settings by interface, below PROC.
FOLDERS = ("ipv4/conf", "ipv6/conf", "ipv4/neigh", "ipv6/neigh", "mpls/conf")
#: Files of an interface, and of each of its queues.
FILES = ("gro_flush_timeout", "napi_defer_hard_irqs", "threaded", "tx_queue_len", "ifalias")
QUEUE_FILES = ("rps_cpus", "rps_flow_cnt", "xps_cpus", "xps_rxqs", "tx_maxrate")
#: How ethtool lists and how it sets: channels first, for they make the queues.
OPTIONS = (("-l", "-L"), ("-g", "-G"), ("-c", "-C"), ("-a", "-A"), ("--show-priv-flags", "--set-priv-flags"),
           ("-k", "-K"))
FLOWS = ("tcp4", "udp4", "tcp6", "udp6")
HASHED = (("IP SA", "s"), ("IP DA", "d"), ("L4 bytes 0 & 1 [TCP/UDP src port]", "f"),
          ("L4 bytes 2 & 3 [TCP/UDP dst port]", "n"), ("VLAN tag", "v"), ("L3 proto", "t"))
FLAGS = ((0x100, "promisc", "on", "off"), (0x200, "allmulticast", "on", "off"), (0x1000, "multicast", "on", "off"),
         (0x80, "arp", "off", "on"))
NAMED = {"autonegotiate": "autoneg"}
#: What is there for show, and features that stand for several others, which are listed too.
LEFT_OUT = ("rx-negotiated", "tx-negotiated", "other", "tx-checksumming", "scatter-gather", "tcp-segmentation-offload")


def run(argv: "list[str]") -> "tuple[int, str]":
    """(status, output) of a command; 127 where there is no such program."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace")


def read(path: str) -> "str | None":
    """A file's text; None for one that is not there or cannot be read (a stable_secret that is not set)."""
    try:
        with open(path) as stream:
            return stream.read().strip()
    except (OSError, ValueError):
        return None


def files(ifname: str) -> "dict[str, str]":
    """Path of every setting that is a file -> name in the list."""
    found = {}
    for folder in FOLDERS:
        place = os.path.join(PROC, folder, ifname)
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else ():
            found[os.path.join(place, name)] = "sysctl %s/%s" % (folder, name)
    for name in FILES:
        found[os.path.join(NET, ifname, name)] = name
    queues = os.path.join(NET, ifname, "queues")
    for queue in sorted(os.listdir(queues)) if os.path.isdir(queues) else ():
        for name in QUEUE_FILES:
            found[os.path.join(queues, queue, name)] = "%s/%s" % (queue, name)
    return found


def listing(text: str) -> "dict[str, str]":
    """``name: word`` lines of ethtool, by the words that set them; what is fixed or n/a is left out."""
    text = text.partition("Current hardware settings")[2] or text
    words = {}
    for name, value, rest in re.findall(r"^[ \t]*([A-Za-z][\w -]{0,60}?)[ \t]*:[ \t]*(\S+)([^\n]*)$", text, re.M):
        word = name.lower().replace(" ", "-")
        if "[fixed]" not in rest and value != "n/a" and word not in LEFT_OUT:
            words[NAMED.get(word, word)] = value
    adaptive = re.search(r"^Adaptive RX: (\S+)\s+TX: (\S+)", text, re.M)
    if adaptive:
        words["adaptive-rx"], words["adaptive-tx"] = adaptive.groups()
        for side in ("rx", "tx"):
            if words["adaptive-" + side] == "n/a":
                del words["adaptive-" + side]
            elif words["adaptive-" + side] == "on":  # the driver sets these as it sees fit
                words.pop(side + "-usecs", None)
                words.pop(side + "-frames", None)
    if words.get("autoneg") == "on":  # pause frames as the two ends agreed, if they have yet
        words.pop("rx", None)
        words.pop("tx", None)
    return words


def table(text: str) -> "list[int]":
    """Receive queue of each entry of the indirection table."""
    rows = re.findall(r"^[ \t]*\d{1,9}:((?:[ \t]+\d{1,9})+)[ \t]*$", text, re.M)
    return [int(queue) for row in rows for queue in row.split()]


def spread(entries: "list[int]") -> "list[str] | None":
    """Words after ``ethtool -X IF`` that make a table; None where none do."""
    queues = max(entries) + 1
    if entries == [n % queues for n in range(len(entries))]:
        return ["equal", str(queues)]
    if entries == sorted(entries):
        return ["weight", *(str(entries.count(queue)) for queue in range(queues))]
    return None


def hash_key(text: str) -> str:
    """The RSS key; "" where the driver does not tell it."""
    found = re.search(r"^((?:[0-9a-f]{2}:){7,}[0-9a-f]{2})\s*$", text, re.M)
    return found.group(1) if found else ""


def link(ifname: str) -> "dict[str, str]":
    """Flags that were set by hand, and alternative names."""
    flags = int(read(os.path.join(NET, ifname, "flags")) or "0", 16)
    found = {"link " + word: on if flags & bit else off for bit, word, on, off in FLAGS}
    status, text = run(["ip", "-j", "link", "show", "dev", ifname])
    rows = json.loads(text or "[]") if status == 0 else []
    for name in sorted(rows[0].get("altnames", [])) if rows else ():
        found["altname " + name] = "there"
    return found


def nic(ifname: str) -> "dict[str, str]":
    """What ethtool tells; nothing of what the driver does not have."""
    found = {}
    for show, _ in OPTIONS:
        status, text = run(["ethtool", show, ifname])
        for word, value in listing(text).items() if status == 0 else ():
            found["ethtool %s %s" % (show, word)] = value
    for flow in FLOWS:
        status, text = run(["ethtool", "-n", ifname, "rx-flow-hash", flow])
        fields = {line.strip() for line in text.splitlines()}
        letters = "".join(letter for name, letter in HASHED if name in fields)
        if status == 0 and letters:
            found["rx-flow-hash " + flow] = letters
    status, text = run(["ethtool", "-x", ifname])
    if status == 0 and table(text):
        found["rss table"] = " ".join(map(str, table(text)))
    if status == 0 and hash_key(text):
        found["rss key"] = hash_key(text)
    return found


def settings(ifname: str) -> "dict[str, str]":
    """Every setting by name."""
    texts = ((name, read(path)) for path, name in files(ifname).items())
    found = {name: text for name, text in texts if text is not None}
    found.update(link(ifname))
    found.update(nic(ifname))
    return found


def lost(ifname: str) -> "list[str]":
    """What is set and could not be put back."""
    found = []
    status, text = run(["ethtool", "-n", ifname])
    rules = re.search(r"^Total (\d+) rules", text, re.M)
    if status == 0 and rules and int(rules.group(1)):
        found.append("%s ntuple rules (ethtool -n)" % rules.group(1))
    status, text = run(["ethtool", "-x", ifname])
    if status == 0 and table(text) and spread(table(text)) is None:
        found.append("an RSS table set by hand (ethtool -x)")
    status, text = run(["tc", "-j", "qdisc", "show", "dev", ifname])
    rows = json.loads(text or "[]") if status == 0 else []
    kinds = [str(row.get("kind")) for row in rows if row.get("handle") != "0:"]
    if kinds:  # the kernel's own have handle 0:
        found.append("qdiscs of somebody's (%s; tc qdisc)" % ", ".join(kinds))
    return found


def restore(ifname: str, wanted: "dict[str, str]") -> "list[str]":
    """Set what differs; returns what still does, in words."""
    before = nic(ifname)
    for show, option in OPTIONS:
        prefix = "ethtool %s " % show
        differ = [name for name in wanted if name.startswith(prefix) and before.get(name) not in (None, wanted[name])]
        words = [word for name in differ for word in (name[len(prefix):], wanted[name])]
        if words:
            run(["ethtool", option, ifname, *words])
    for flow in FLOWS:
        name = "rx-flow-hash " + flow
        if name in wanted and before.get(name) != wanted[name]:
            run(["ethtool", "-N", ifname, "rx-flow-hash", flow, wanted[name]])
    now = nic(ifname)
    if "rss key" in wanted and now.get("rss key") != wanted["rss key"]:
        run(["ethtool", "-X", ifname, "hkey", wanted["rss key"]])
    if "rss table" in wanted and now.get("rss table") != wanted["rss table"]:
        entries = [int(queue) for queue in wanted["rss table"].split()]
        run(["ethtool", "-X", ifname, *(spread(entries) or ["default"])])
    restore_link(ifname, wanted)
    for path, name in files(ifname).items():
        if name in wanted and read(path) not in (None, wanted[name]):
            write(path, wanted[name])
    return differences(wanted, settings(ifname))


def restore_link(ifname: str, wanted: "dict[str, str]") -> None:
    """Flags and alternative names."""
    flags = link(ifname)
    for name in wanted:
        word = name.partition(" ")[2]
        if name.startswith("link ") and flags.get(name) != wanted[name]:
            run(["ip", "link", "set", "dev", ifname, word, wanted[name]])
        elif name.startswith("altname ") and name not in flags:
            run(["ip", "link", "property", "add", "dev", ifname, "altname", word])


def write(path: str, value: str) -> None:
    """Write a setting. What the kernel refuses is told by the comparison that follows."""
    try:
        with open(path, "w") as stream:
            stream.write(value + "\n")
    except OSError:
        return


def differences(wanted: "dict[str, str]", now: "dict[str, str]") -> "list[str]":
    """In what ``now`` is not as wanted, in words."""
    return ["%s was %s and is %s" % (name, value or "empty", now.get(name, "gone"))
            for name, value in sorted(wanted.items()) if now.get(name) != value]


def main(what: str, ifname: str, wanted: str = "{}") -> int:
    """Status 0 when all is as asked; 1 with what differs on stderr."""
    if what == "show":
        sys.stdout.write(json.dumps({"settings": settings(ifname), "lost": lost(ifname)}))
        return 0
    wrong = restore(ifname, json.loads(wanted))
    if wrong and what == "restore":
        sys.stderr.write("%s: %s\n" % (ifname, "; ".join(wrong[:20])))
    return 1 if wrong and what == "restore" else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
