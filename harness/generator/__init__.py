# SPDX-License-Identifier: Apache-2.0
"""Traffic generation: the Generator contract, the driver, the agent, two clients and the embedded server."""
