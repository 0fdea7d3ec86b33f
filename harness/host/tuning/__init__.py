# SPDX-License-Identifier: Apache-2.0
"""Tuning of a DUT: every change is on the host's journal, read back when made, and read back again when undone."""
