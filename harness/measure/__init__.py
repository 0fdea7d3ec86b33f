# SPDX-License-Identifier: Apache-2.0
"""Measuring: one trial, the search over trials, and what is derived from what both ends recorded."""
