# SPDX-License-Identifier: Apache-2.0
"""Hosts: SSH, the agent that runs on a DUT, files and programs, facts, tuning."""
