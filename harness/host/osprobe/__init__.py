# SPDX-License-Identifier: Apache-2.0
"""Per-core CPU and interface counters, one probe per operating system.

Linux has the DUT agent, and :class:`AgentProbe` asks it. A host without one (another system, or no Python) is read by
plain commands: :class:`CommandProbe` with :class:`~harness.host.osprobe.bsd.Bsd` or
:class:`~harness.host.osprobe.illumos.Illumos`.
"""

from harness.host.osprobe.agent import AgentProbe
from harness.host.osprobe.commands import CommandProbe, command_probe
from harness.host.osprobe.contract import OsProbe

__all__ = ["AgentProbe", "CommandProbe", "OsProbe", "command_probe"]
