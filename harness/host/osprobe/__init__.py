# SPDX-License-Identifier: Apache-2.0
"""Per-core CPU and interface counters, one probe per operating system.

Linux has the DUT agent, and :class:`AgentProbe` asks it: runs use this one only. For systems without the agent there
are readers of plain commands (:class:`CommandProbe` with :class:`~harness.host.osprobe.bsd.Bsd` or
:class:`~harness.host.osprobe.illumos.Illumos`), tested on samples of what those systems print. No run can choose them
yet: starting programs, the journal and leases are the agent's too, so a host that is not Linux cannot be a DUT.
"""

from harness.host.osprobe.agent import AgentProbe
from harness.host.osprobe.commands import CommandProbe, command_probe
from harness.host.osprobe.contract import OsProbe

__all__ = ["AgentProbe", "CommandProbe", "OsProbe", "command_probe"]
