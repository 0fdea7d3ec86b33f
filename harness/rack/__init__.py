# SPDX-License-Identifier: Apache-2.0
"""From hosts that SSH reaches to a testbed file, and from a testbed file back to the hosts: is it true?

``look``: what a host has. ``cabling``: which port reaches which, by marked frames. ``choose``: which of it becomes the
testbed. ``write``: the file's text. ``check``: a file against its hosts. ``there`` and ``frames`` run on the hosts.
"""
