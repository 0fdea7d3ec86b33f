# SPDX-License-Identifier: Apache-2.0
"""The embedded generator: TRex's STL RPC in front, XDP live frames behind."""
