# SPDX-License-Identifier: Apache-2.0
"""The ``harness`` command: finds the subcommand, runs it, turns what goes wrong into words and an exit code.

Exit codes are those of :mod:`harness.errors`; 141 when whoever read the output went away (as a shell reports SIGPIPE).
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from harness import __version__
from harness.commands import TABLE
from harness.errors import EXIT_INTERRUPTED, HarnessError, MeasurementError, UsageError
from harness.texttable import plain

EXIT_PIPE = 128 + signal.SIGPIPE


class _Cli(click.Group):
    """Loads a subcommand when it is asked for. click would end on a broken pipe with 1, which is kept for a gate that
    fails."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in TABLE:
            return None
        module, _, attribute = TABLE[cmd_name].partition(":")
        command = getattr(import_module(f"harness.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _reader_gone()


def _reader_gone() -> int:
    # Python flushes standard output once more at exit; give it somewhere to go.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return EXIT_PIPE


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="harness")
def cli() -> None:
    """Which network stack, how many cores, at what latency?

    Begin with `harness run scenarios/quickstart.yaml`: it builds a lab on this machine (as root), measures four stacks
    in it and says where the results are; `harness report latest` makes a page of them.

    Exit codes: 0 done, 1 gate failed, 2 usage or file error, 3 testbed not fit, 4 measurement failed or incomplete,
    5 the gate cannot tell (--strict), 130 interrupted.
    """


def invoke(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; every error has been printed."""
    try:
        code = cli.main(None if argv is None else list(argv), prog_name="harness", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except HarnessError as error:
        click.echo(f"harness: {plain(str(error), lines=True)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("harness: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Exception:  # noqa: BLE001 - a defect of the harness: show it, and never with the exit code of a failed gate
        click.echo(plain(traceback.format_exc(), lines=True), nl=False, err=True)
        click.echo("harness: this is a defect of the harness; please report it with the lines above", err=True)
        return MeasurementError.exit_code


def main() -> NoReturn:
    """Entry point of the ``harness`` command."""
    sys.exit(invoke())
