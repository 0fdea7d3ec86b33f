# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the lab, beyond a machine that cannot carry one (:class:`harness.errors.TestbedError`)."""

from __future__ import annotations

from harness.errors import TestbedError, UsageError


class LabError(TestbedError):
    """The lab could not be built, changed or removed on this machine; the text says which step and what to do."""


class LabNameError(UsageError):
    """A lab name is malformed, taken, or names no lab."""
