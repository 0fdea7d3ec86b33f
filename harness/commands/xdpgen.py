# SPDX-License-Identifier: Apache-2.0
"""``harness xdpgen``: the embedded generator alone."""

from __future__ import annotations

import click


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def xdpgen(arguments: tuple[str, ...]) -> int:
    """The embedded generator alone: a server that speaks TRex's RPC (see `harness xdpgen --help`)."""
    from harness.generator.xdpgen.__main__ import main as serve

    return serve(list(arguments))
