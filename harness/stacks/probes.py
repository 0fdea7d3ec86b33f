# SPDX-License-Identifier: Apache-2.0
"""What the kernel of a DUT can do, found out by doing it: in a network namespace that ends with the command which made
it, so that nothing is left and no interface of the host is touched."""

from __future__ import annotations

from collections.abc import Sequence

from harness.host.contract import Dut
from harness.plan import PointPlan
from harness.stack import Missing

_CONNTRACK_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"


def refusal(dut: Dut, argv: Sequence[str], *, stdin: str = "") -> str:
    """"" when the command succeeds in a fresh network namespace (whose only interface is ``lo``, down), else the last
    line of what it said. Raises HostError when it cannot be run at all."""
    done = dut.run(["unshare", "--net", "--", *argv], stdin=stdin, check=False)
    if done.returncode == 0:
        return ""
    said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip(" ^\t")]
    return next((line for line in said if line.startswith("Error:")), said[-1] if said else f"status {done.returncode}")


def missing_programs(dut: Dut, *programs: tuple[str, str]) -> list[Missing]:
    """One entry for every (program, Debian package) whose program is not on the host's search path."""
    return [Missing(f"the program {name}", f"apt-get install {package}")
            for name, package in programs if dut.which(name) is None]


def missing_conntrack_room(dut: Dut, point: PointPlan) -> list[Missing]:
    """What keeps connection tracking from holding every flow of the point; a full table drops packets."""
    flows = sum(direction.flows.count for direction in point.directions)
    most = dut.read(_CONNTRACK_MAX, "").strip()
    if not most.isdigit() or int(most) >= flows:
        return []
    return [Missing(f"room for {flows} flows in connection tracking (nf_conntrack_max is {most})",
                    f"sysctl -w net.netfilter.nf_conntrack_max={2 * flows}, or fewer flows")]
