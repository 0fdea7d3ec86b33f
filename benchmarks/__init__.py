# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: what the harness costs and how well its generator keeps time. Not tests: they judge nothing."""
