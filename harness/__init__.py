# SPDX-License-Identifier: Apache-2.0
"""Comparative network-stack benchmarking: which stack, how many cores, at what latency."""

__version__ = "0.1.0"
