# SPDX-License-Identifier: Apache-2.0
"""Is this testbed fit to be measured on? Checks of hosts and wires, each with value, expectation, reason and remedy.

``items`` names every check with its policy; a module a subject makes the findings; ``examine`` asks the hosts. The
checks change nothing that they do not put back: only the probe frames on the wires need a program on the DUT.
"""
