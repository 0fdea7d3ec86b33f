# SPDX-License-Identifier: Apache-2.0
"""``harness testbed``: init, check."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.commands.common import (
    FILE,
    interrupt_on_termination,
    json_option,
    one_line,
    print_checks,
    print_json,
    say,
    write_file,
)


@click.group()
def testbed() -> None:
    """From an empty rack to a testbed file, and from the file back to the rack.

    `init` looks at the hosts over SSH and writes the file; `check` proves that a file is true. Neither needs a
    generator, and neither measures. `harness doctor --testbed FILE` comes next: is what is there fit to be measured on?
    """


@testbed.command("init")
@click.option("-o", "--output", type=FILE, default=Path("testbed.yaml"), show_default=True, metavar="FILE",
              help="The file to write.")
@click.option("--name", metavar="NAME", default="rack", show_default=True, help="The testbed's name in results.")
@click.option("--generator", metavar="USER@HOST[:PORT]", help="The generator's host; `local`: this machine.")
@click.option("--dut", "duts", metavar="NAME=USER@HOST[:PORT]", multiple=True,
              help="A device under test; give one for each.")
@click.option("--port", "ports", metavar="HOST/IFNAME", multiple=True,
              help="Of this host (`generator` or a DUT's name) only the ports so named, which may then be of software "
                   "or carry an address.")
@click.option("--key", default="", metavar="FILE", help="Private key; your SSH agent's keys when left out.")
@click.option("--known-hosts", default="", metavar="FILE", help="File with the hosts' keys  [default: "
                                                                "~/.ssh/known_hosts]")
@click.option("--jump", default="", metavar="USER@HOST[:PORT]", help="Reach all hosts through this one.")
@click.option("--trex", default="", metavar="DIR", help="TRex's directory on the generator's host; looked for in "
                                                        "/opt/trex* and the like when left out.")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@json_option
def init(output: Path, name: str, generator: str | None, duts: tuple[str, ...], ports: tuple[str, ...], key: str,
         known_hosts: str, jump: str, trex: str, force: bool, as_json: bool) -> int:
    """Look at hosts over SSH and write the testbed file.

    Finds NICs, cores, NUMA, the management interface, TRex, and what is cabled to what: a marked frame goes out of
    every port that may be a test port, and all others listen. Ports that are down are up meanwhile. Nothing is sent
    out of the interface that carries SSH or the default route, or of one with an address. Asks for hosts and ports that
    were not named when it is at a terminal. What cannot be found out stands in the file as a comment, FILL IN, and the
    exit code is then 3.
    """
    from harness.errors import UsageError
    from harness.rack.setup import Asked, set_up

    interrupt_on_termination()
    if output.exists() and not force:
        raise UsageError(f"{output} exists; name another file with -o, or overwrite it with --force")
    at_terminal = sys.stdin.isatty() and not as_json
    if generator is None and at_terminal:
        generator = click.prompt("Generator (USER@HOST[:PORT], or local)", err=True)
    while not duts and at_terminal:
        duts = _ask_duts()
    asked = Asked.of(generator or "", duts, ports, key=key, known_hosts=known_hosts, jump=jump, trex=trex)
    found = set_up(asked, name, say, _choose_ports if at_terminal and not ports
                   else None)
    write_file(output, found.text)
    code = 3 if found.missing else 0
    if as_json:
        print_json({"file": str(output), **found.data(), "exit_code": code})
    else:
        click.echo(found.summary())
        click.echo(f"next: harness testbed check {output}" if not code else
                   f"{output} is not complete: fill in what it marks FILL IN, then harness testbed check {output}")
    return code


def _ask_duts() -> tuple[str, ...]:
    answers: list[str] = []
    question = "DUT (NAME=USER@HOST[:PORT], empty when done)"
    while answer := click.prompt(question, default="", show_default=False, err=True):
        answers.append(answer)
    return tuple(answers)


def _choose_ports(host: str, names: list[str]) -> list[str]:
    """Which of a host's candidates to try."""
    while True:
        answer = click.prompt(f"Ports of {one_line(host)} to try ({', '.join(names)})", default="all", err=True)
        chosen = names if answer == "all" else answer.replace(",", " ").split()
        unknown = [one for one in chosen if one not in names]
        if not unknown:
            return chosen
        click.echo(f"{one_line(unknown[0])} is none of them", err=True)


@testbed.command("check")
@click.argument("file", type=FILE)
@json_option
def check(file: Path, as_json: bool) -> int:
    """Prove a testbed FILE against its hosts.

    Every host is reached; every port exists with the MAC and PCI address said, has a link of the speed said, and is
    cabled as `wires` says (marked frames both ways, through the kernel's ports: no generator is needed); management
    interface, cores, TRex, and the values that `checks` expects are as said. Each that is not: one line with the
    remedy, and exit code 3. Everything that was set up for it is put back.

    `harness doctor --testbed FILE` asks another question: are these hosts fit to be measured on (clocks, idle states,
    offloads, rings, firewalls, load), and do frames of all sizes pass through the running generator?
    """
    from harness.rack.check import check_against_hosts
    from harness.testbed import load_testbed

    interrupt_on_termination()
    checks = check_against_hosts(load_testbed(file), say)
    return print_checks(checks, as_json=as_json)
