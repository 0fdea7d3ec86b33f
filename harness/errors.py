# SPDX-License-Identifier: Apache-2.0
"""One root for every error the harness raises on purpose, one exit code per class.

The text of an error is shown to the user as it is, so it says what is wrong and what to do about it.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Root of all expected failures; ``exit_code`` is what the command returns."""

    exit_code = 4


class UsageError(HarnessError):
    """A command line, scenario or testbed file is wrong; nothing was touched."""

    exit_code = 2


class TestbedError(HarnessError):
    """A machine is not fit for the job: what is missing and how to get it."""

    __test__ = False  # the name begins with "Test", pytest must not collect it
    exit_code = 3


class MeasurementError(HarnessError):
    """A measurement could not be made: a point failed, was skipped, or is incomplete."""

    exit_code = 4


class ResultsError(HarnessError):
    """What was measured cannot be kept (disk full, directory gone); the run ends."""

    exit_code = 4


class StackError(MeasurementError):
    """A stack did not start, died, or does not do what its role says; the point fails, the run goes on."""

    def __init__(self, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.log_tail = log_tail


class GeneratorError(MeasurementError):
    """The generator refused a request, died, or stopped answering."""


class GeneratorDied(GeneratorError):
    """The generator's process or its connection is gone; a restart may help."""


class HostError(MeasurementError):
    """A command or file operation on a host failed."""


class HostLost(HarnessError):
    """The connection to a host is gone, or its agent: nothing more can be measured there. The run ends and can be
    resumed; what was changed on the host is undone by its agent, or by the next contact."""

    exit_code = 4


class HostNotRestored(HarnessError):
    """What was changed on a host could not be put back: nothing measured there from now on would be of the host that
    the report describes. The run ends and can be resumed once the host is set right by hand."""

    exit_code = 4


EXIT_INTERRUPTED = 130
