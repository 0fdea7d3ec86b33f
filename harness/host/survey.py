# SPDX-License-Identifier: Apache-2.0
"""Reads everything about a host that changes what is measured on it, and prints it as one JSON object.

One file, standard library only, Python 3.6 syntax, run on the host itself (``python3 -I -c``): one request instead of
hundreds. It changes nothing and interprets little: texts of files, what commands print, what ethtool's ioctls answer;
:mod:`harness.host.facts` and :mod:`harness.doctor` make sense of them. Bounded in files, bytes and time.

argv[1], JSON: ``ports`` (interface names looked at first), ``pci`` (addresses), ``cores`` (CPUs looked at closely,
which this program keeps off), ``tools`` (whether to ask for their versions), ``load_s`` (how long to watch the CPUs; 0:
not).
"""

import ctypes
import errno
import fcntl
import glob
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

Json = Dict[str, Any]

MOST_FILE, MOST_OUTPUT, MOST_TOTAL = 16384, 131072, 700000
MOST_INTERFACES, MOST_CORES, MOST_THREADS, MOST_SOCKETS = 32, 64, 20, 64
COMMAND_S = 8.0
CPU = "/sys/devices/system/cpu"
MODULAR, LOADED, BUILTIN = "/proc/modules", "/sys/module/", "/lib/modules/%s/modules.builtin"
FILES = (
    "/proc/sys/kernel/osrelease", "/proc/sys/kernel/version", "/proc/cmdline", "/etc/os-release", "/proc/meminfo",
    "/proc/buddyinfo", "/proc/loadavg", "/proc/uptime", "/proc/sys/kernel/random/boot_id", "/proc/net/ip_tables_names",
    "/proc/net/ip6_tables_names", "/proc/sys/kernel/sched_rt_runtime_us",
    CPU + "/online", CPU + "/isolated", CPU + "/nohz_full", CPU + "/smt/control", CPU + "/smt/active",
    CPU + "/cpu0/cpufreq/scaling_driver", CPU + "/cpu0/cpufreq/base_frequency", CPU + "/cpu0/acpi_cppc/nominal_freq",
    CPU + "/intel_pstate/no_turbo", CPU + "/cpufreq/boost", CPU + "/cpuidle/current_driver",
    CPU + "/vulnerabilities/*", CPU + "/cpu0/cpuidle/state*/name", CPU + "/cpu0/cpuidle/state*/latency",
    CPU + "/cpu0/cpuidle/state*/disable", CPU + "/cpu0/cpufreq/scaling_governor",
    "/sys/kernel/mm/hugepages/*/nr_hugepages", "/sys/kernel/mm/hugepages/*/free_hugepages",
    "/sys/devices/system/node/online", "/sys/devices/system/node/node[0-7]/hugepages/*/free_hugepages",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource",
)
CORE_FILES = ("cpufreq/scaling_governor", "cpuidle/state*/name", "cpuidle/state*/latency", "cpuidle/state*/disable")
PORT_FILES = ("address", "mtu", "speed", "duplex", "operstate", "carrier", "flags", "ifindex", "threaded",
              "device/vendor", "device/device", "device/subsystem_vendor", "device/subsystem_device")
PCI_FILES = ("numa_node", "current_link_speed", "current_link_width", "max_link_speed", "max_link_width")
COMMANDS = {
    "lscpu": ["lscpu", "-p=CPU,CORE,SOCKET,NODE"],
    "virtualisation": ["systemd-detect-virt"],
    "addresses": ["ip", "-j", "address", "show"],
    "nftables": ["nft", "-j", "list", "ruleset"],
}
LEGACY = {"iptables": ("ip_tables_names", ["iptables-legacy-save", "-c"]),
          "ip6tables": ("ip6_tables_names", ["ip6tables-legacy-save", "-c"])}
TOOLS = {
    "tool.ethtool": ["ethtool", "--version"], "tool.iproute2": ["ip", "-V"], "tool.cc": ["cc", "--version"],
    "tool.clang": ["clang", "--version"], "tool.make": ["make", "--version"], "tool.nft": ["nft", "--version"],
    "tool.perf": ["perf", "--version"],
}


def read(path: str, most: int = MOST_FILE) -> Optional[str]:
    """The first bytes of a file as text; None where it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.read(fd, most).decode("utf-8", "replace")
    except OSError:  # such as the speed of a port that is down
        return None
    finally:
        os.close(fd)


def files(cores: Sequence[int]) -> Dict[str, str]:
    """path -> text of what is there."""
    patterns = list(FILES)
    for core in cores:
        patterns += ["%s/cpu%d/%s" % (CPU, core, name) for name in CORE_FILES]
    found = {}  # type: Dict[str, str]
    total = 0
    for pattern in patterns:
        for path in sorted(glob.glob(pattern))[:256] if "*" in pattern or "[" in pattern else [pattern]:
            text = read(path)
            if text is not None and total < MOST_TOTAL // 2:
                found[path] = text
                total += len(text) + len(path)
    info = (read("/proc/cpuinfo", 65536) or "").split("\n\n")[0]
    if info:
        found["/proc/cpuinfo"] = info[:MOST_FILE]
    return found


# -- commands


def run(argv: Sequence[str]) -> Json:
    """What a command prints; ``missing`` where there is no such program, ``late`` where it was not done in time."""
    environment = dict(os.environ, LC_ALL="C", PATH=os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin")
    try:
        child = subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=environment)
    except OSError as error:
        return {"missing": error.errno in (errno.ENOENT, errno.EACCES), "error": str(error)[:200]}
    try:
        out, err = child.communicate(timeout=COMMAND_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return {"late": True, "error": "not done within %g s" % COMMAND_S}
    return {"status": child.returncode, "out": out[:MOST_OUTPUT].decode("utf-8", "replace"),
            "cut": len(out) > MOST_OUTPUT, "err": err[:500].decode("utf-8", "replace")}


def would_load(module: str) -> bool:
    """Whether a kernel has this module on disk only, so that asking for what it knows would load it, for good."""
    if not os.path.exists(MODULAR) or os.path.isdir(LOADED + module):
        return False
    builtin = read(BUILTIN % os.uname().release, MOST_TOTAL)
    return builtin is not None and "/%s.ko" % module not in builtin  # None: a container, which cannot tell


def commands(tools: bool) -> Json:
    """name -> what the command printed, all at the same time."""
    wanted = dict(COMMANDS, **(TOOLS if tools else {}))
    for name, (tables, argv) in LEGACY.items():
        if (read("/proc/net/" + tables) or "").strip():  # asking loads the tables where there are none
            wanted[name] = argv
    results = {}  # type: Json
    if would_load("nf_tables"):
        del wanted["nftables"]
        results["nftables"] = {"status": 0, "out": '{"nftables": []}', "cut": False, "err": ""}
    if would_load("nfnetlink"):  # nft opens its socket even to tell its version
        wanted.pop("tool.nft", None)

    def one(name: str) -> None:
        results[name] = run(wanted[name])

    threads = [threading.Thread(target=one, args=(name,)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


# -- interfaces


class Ethtool:
    """ethtool's ioctls on one interface. Each method returns None where the driver does not answer."""

    def __init__(self, control: socket.socket, ifname: str) -> None:
        self._control, self._ifname = control, ifname

    def _ask(self, command: bytes) -> Optional[bytes]:
        data = ctypes.create_string_buffer(command, len(command))
        request = struct.pack("16sP", self._ifname.encode(), ctypes.addressof(data)).ljust(40, b"\0")
        try:
            fcntl.ioctl(self._control.fileno(), 0x8946, request)
        except OSError:
            return None
        return data.raw

    def _numbers(self, command: int, names: Sequence[str]) -> Optional[Dict[str, int]]:
        answer = self._ask(struct.pack("=I", command) + bytes(4 * len(names)))
        if answer is None:
            return None
        return dict(zip(names, struct.unpack_from("=%dI" % len(names), answer, 4)))  # noqa: B905 (Python 3.6)

    def driver(self) -> Optional[Json]:
        """driver, version, firmware, bus."""
        answer = self._ask(struct.pack("=I", 0x03) + bytes(192))
        if answer is None:
            return None
        fields = ((4, "driver"), (36, "version"), (68, "firmware"), (100, "bus"))
        return {name: answer[at:at + 32].partition(b"\0")[0].decode("utf-8", "replace") for at, name in fields}

    def rings(self) -> Optional[Dict[str, int]]:
        """Descriptors of each ring, and the most there can be."""
        return self._numbers(0x10, ("rx_max", "rx_mini_max", "rx_jumbo_max", "tx_max", "rx", "rx_mini", "rx_jumbo",
                                    "tx"))

    def channels(self) -> Optional[Dict[str, int]]:
        """Queues."""
        return self._numbers(0x3C, ("rx_max", "tx_max", "other_max", "combined_max", "rx", "tx", "other", "combined"))

    def pause(self) -> Optional[Dict[str, int]]:
        """Flow control."""
        return self._numbers(0x12, ("autoneg", "rx", "tx"))

    def coalescing(self) -> Optional[Dict[str, int]]:
        """Microseconds and frames between interrupts, and whether the driver adapts them."""
        names = ("rx_usecs", "rx_frames", "rx_usecs_irq", "rx_frames_irq", "tx_usecs", "tx_frames", "tx_usecs_irq",
                 "tx_frames_irq", "stats_block", "adaptive_rx", "adaptive_tx")
        answer = self._numbers(0x0E, (*names, *("_%d" % number for number in range(11))))
        kept = ("rx_usecs", "rx_frames", "tx_usecs", "tx_frames", "adaptive_rx", "adaptive_tx")
        return None if answer is None else {name: answer[name] for name in kept}

    def features(self) -> Optional[Dict[str, bool]]:
        """The kernel's name of every offload -> whether it is on."""
        info = self._ask(struct.pack("=IIQI", 0x37, 0, 1 << 4, 0))
        count = struct.unpack_from("=I", info, 16)[0] if info and struct.unpack_from("=Q", info, 8)[0] else 0
        if not 0 < count <= 512:
            return None
        names = self._ask(struct.pack("=III", 0x1B, 4, count) + bytes(32 * count))
        blocks = (count + 31) // 32
        values = self._ask(struct.pack("=II", 0x3A, blocks) + bytes(16 * blocks))
        if names is None or values is None:
            return None
        active = [struct.unpack_from("=4I", values, 8 + 16 * block)[2] for block in range(blocks)]
        return {names[12 + 32 * bit:44 + 32 * bit].partition(b"\0")[0].decode("ascii", "replace"):
                bool(active[bit // 32] >> bit % 32 & 1) for bit in range(count)}


def link_name(path: str) -> Optional[str]:
    """The last part of where a symbolic link points."""
    try:
        return os.path.basename(os.readlink(path))
    except OSError:
        return None


def interfaces(ports: Sequence[str]) -> Json:
    """Name -> sysfs, PCI device, ethtool; test ports first, without ``lo``."""
    try:
        names = sorted(os.listdir("/sys/class/net"), key=lambda name: (name not in ports, name))
    except OSError:
        return {}
    found = {}  # type: Json
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for name in [name for name in names if name not in ("lo", "bonding_masters")][:MOST_INTERFACES]:
            folder, ethtool = "/sys/class/net/" + name, Ethtool(control, name)
            entry = {item: read("%s/%s" % (folder, item)) for item in PORT_FILES}  # type: Json
            entry["master"] = link_name(folder + "/master")
            entry["device"] = link_name(folder + "/device")
            entry["pci"] = pci_device(folder + "/device")
            entry["driver"] = ethtool.driver()
            for item in ("rings", "channels", "pause", "coalescing", "features"):
                entry[item] = getattr(ethtool, item)()
            found[name] = entry
    return found


def pci_device(folder: str) -> Optional[Json]:
    """What the bus says of a device; None where it is no PCI device (virtio devices have theirs one level up)."""
    for place in (folder, os.path.join(os.path.realpath(folder), "..")):
        if link_name(place + "/subsystem") == "pci":
            entry = {item: read("%s/%s" % (place, item)) for item in PCI_FILES}  # type: Json
            entry["address"] = os.path.basename(os.path.realpath(place))
            entry["driver"] = link_name(place + "/driver")
            return entry
    return None


# -- who else is there


def packet_sockets() -> Optional[List[Json]]:
    """Open packet sockets of this network namespace with who holds them; None where the kernel does not say."""
    text = read("/proc/self/net/packet", 65536)
    if text is None:
        return None
    rows = [line.split() for line in text.splitlines()[1:]][:MOST_SOCKETS]
    found = {row[8]: {"protocol": row[3], "ifindex": int(row[4]), "type": int(row[2]), "pid": None, "name": ""}
             for row in rows if len(row) > 8}  # type: Dict[str, Json]
    if found:
        for path in glob.glob("/proc/[0-9]*/fd/*"):
            target = link_name(path) or ""
            match = re.match(r"socket:\[(\d+)\]$", target)
            if match and match.group(1) in found:
                pid = int(path.split("/")[2])
                found[match.group(1)].update(pid=pid, name=(read("/proc/%d/comm" % pid) or "").strip())
    return list(found.values())


def programs() -> List[str]:
    """Names of running programs that meddle with what is measured."""
    wanted = {"irqbalance", "tuned", "power-profiles-", "thermald", "cpupower", "firewalld", "ufw", "NetworkManager",
              "lldpd", "dhclient", "dhcpcd", "tcpdump", "suricata", "snort"}
    names = {(read(path) or "").strip() for path in glob.glob("/proc/[0-9]*/comm")}
    return sorted(names & wanted)


def thread_times() -> Dict[Tuple[str, str], int]:
    """(pid, tid) -> run time in ns of every thread that is not ours."""
    times = {}  # type: Dict[Tuple[str, str], int]
    for path in glob.iglob("/proc/[0-9]*/task/*/schedstat"):
        _, _, pid, _, tid, _ = path.split("/")
        text = read(path, 64)
        if text and pid != str(os.getpid()):
            times[pid, tid] = int(text.split()[0])
    return times


def core_ticks() -> Dict[int, Tuple[int, int]]:
    """CPU -> (busy ticks, all ticks), steal being neither busy nor idle."""
    ticks = {}
    for line in (read("/proc/stat", 1 << 20) or "").splitlines():
        if re.match(r"cpu\d", line):
            fields = [int(field) for field in line.split()[1:9]]
            ticks[int(line.split()[0][3:])] = (sum(fields[:3]) + fields[5] + fields[6], sum(fields))
    return ticks


def load(seconds: float, cores: Sequence[int]) -> Optional[Json]:
    """What ran on these cores while this program slept: share of time by the kernel's ticks, seconds by thread."""
    if seconds <= 0:
        return None
    threads, ticks, began = thread_times(), core_ticks(), time.monotonic()
    time.sleep(seconds)
    took, now = time.monotonic() - began, core_ticks()
    use = []  # type: List[List[Any]]
    for (pid, tid), ran in thread_times().items():
        delta = ran - threads.get((pid, tid), ran)
        if delta > 0:
            head, _, rest = (read("/proc/%s/task/%s/stat" % (pid, tid)) or "").rpartition(")")
            if rest and int(rest.split()[36]) in cores:
                use.append([int(rest.split()[36]), head.partition("(")[2][:40], delta / 1e9])
    shares = {str(core): (now[core][0] - ticks[core][0]) / max(1, now[core][1] - ticks[core][1])
              for core in cores if core in now and core in ticks}
    return {"seconds": took, "shares": shares, "threads": sorted(use, key=lambda row: -float(row[2]))[:MOST_THREADS]}


def clock() -> Json:
    """Wall clock and whether the kernel believes that somebody keeps it right (adjtimex)."""
    answer = {"realtime_ns": int(time.time() * 1e9), "synchronised": None, "max_error_us": None}  # type: Json
    buffer = ctypes.create_string_buffer(512)
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return answer
    if state >= 0 and struct.calcsize("l") == 8:
        maximum, status = struct.unpack_from("@l", buffer, 24)[0], struct.unpack_from("@i", buffer, 40)[0]
        answer.update(synchronised=state != 5 and not status & 0x40, max_error_us=maximum)
    return answer


def survey(request: Json) -> Json:
    """Everything, in the order in which it disturbs least what is looked at."""
    cores = [int(core) for core in request.get("cores", ())][:MOST_CORES]
    ports = [str(port) for port in request.get("ports", ())]
    there = os.sched_getaffinity(0)
    os.sched_setaffinity(0, there - set(cores) or there)
    pci = [str(address) for address in request.get("pci", ())][:MOST_INTERFACES]
    steps: List[Tuple[str, Callable[[], Any]]] = [
        ("load", lambda: load(float(request.get("load_s", 0)), cores)), ("packet_sockets", packet_sockets),
        ("programs", programs), ("files", lambda: files(cores)), ("interfaces", lambda: interfaces(ports)),
        ("pci", lambda: {address: pci_device("/sys/bus/pci/devices/" + address) for address in pci}),
        ("commands", lambda: commands(bool(request.get("tools", True)))), ("clock", clock),
    ]
    answer = {"survey": 1, "python": sys.version.split()[0], "uid": os.geteuid()}  # type: Json
    for name, step in steps:
        answer[name] = step()
    return answer


if __name__ == "__main__":
    sys.stdout.write(json.dumps(survey(json.loads(sys.argv[1]))))
