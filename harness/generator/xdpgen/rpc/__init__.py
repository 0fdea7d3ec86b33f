# SPDX-License-Identifier: Apache-2.0
"""TRex's stateless RPC (API 5.1) as xdpgen serves it: one module a subject, no sockets (see ``server.py``)."""
