# SPDX-License-Identifier: Apache-2.0
"""``harness lab``: up, down, status, exec."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from harness.commands.common import interrupt_on_termination, json_option, print_json, say


@click.group()
def lab() -> None:
    """The lab on this machine: two namespaces, virtual wires, an SSH server. Needs root.

    `harness run` brings its own lab; these commands are for looking around in one.
    """


@lab.command("up")
@click.option("--name", metavar="NAME", help="1 to 8 of a-z and 0-9; chosen when left out.")
@click.option("--wires", type=click.IntRange(1, 4), default=2, show_default=True, metavar="N", help="Number of wires.")
@click.option("--dut", type=click.Choice(["netns", "vm"]), default="netns", show_default=True,
              help="A namespace, or a virtual machine with its own kernel and PCI NICs.")
@click.option("--nic", type=click.Choice(["vmxnet3", "e1000", "e1000e", "virtio-net-pci", "igb"]),
              default="vmxnet3", show_default=True,
              help="Virtual machine: model of its test ports; igb has SR-IOV and takes QEMU 8.0 or newer.")
@click.option("--iommu", is_flag=True, help="Virtual machine: an IOMMU, for vfio-pci and virtual functions.")
@click.option("--memory", type=click.IntRange(512, 65536), default=1536, show_default=True, metavar="MIB",
              help="Virtual machine: memory.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True,
              help="Virtual machine: KVM where it works, or translation, slow.")
@json_option
def lab_up(name: str | None, wires: int, dut: str, nic: str, iommu: bool, memory: int, accel: str,
           as_json: bool) -> int:
    """Build a lab that stays until `harness lab down`.

    With `--dut vm` the first call builds the guest's disk from Debian packages (minutes); it is kept in ~/.cache. What
    is printed at the end is a testbed file for `harness run SCENARIO --testbed FILE`. HARNESS_QEMU names a QEMU other
    than Debian's.
    """
    from harness.lab import Lab
    from harness.lab.vm import Machine, VmLab
    from harness.listing import labs_data, labs_text

    interrupt_on_termination()
    made: Lab
    if dut == "vm":
        machine = Machine(nic=nic, memory_mib=memory, accelerator=accel, iommu=iommu)
        made = VmLab.up(name, wires=wires, persistent=True, machine=machine,
                        say=say)
    else:
        made = Lab.up(name, wires=wires, persistent=True)
    labs = [status for status in Lab.status() if status.name == made.name]
    testbed = str(made.testbed_file) if isinstance(made, VmLab) else ""
    if as_json:
        print_json(labs_data(labs)[0] | ({"testbed": testbed} if testbed else {}))
    else:
        click.echo(labs_text(labs))
        click.echo(f"harness lab exec {made.name} dut -- ip addr     # a command in it\n"
                   f"harness lab down {made.name}                    # remove it")
        if testbed:
            click.echo(f"testbed: {testbed}")
    return 0


@lab.command("down")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@json_option
def lab_down(names: tuple[str, ...], as_json: bool) -> int:
    """Remove the labs NAMEd; without a name, all that no running command uses."""
    from harness.lab import Lab

    removed = Lab.clean_stale()
    chosen = names or [status.name for status in Lab.status() if status.owner is None]
    for name in chosen:
        if name not in removed:
            Lab.down(name)
            removed.append(name)
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"removed: {', '.join(removed)}" if removed else "there was no lab to remove")
    return 0


@lab.command("status")
@json_option
def lab_status(as_json: bool) -> int:
    """List the labs of this machine and what runs in them. Changes nothing."""
    from harness.lab import Lab
    from harness.listing import labs_data, labs_text

    labs = Lab.status()
    if as_json:
        print_json(labs_data(labs))
    else:
        click.echo(labs_text(labs))
    return 0


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("name")
@click.argument("side", type=click.Choice(["tg", "dut"]))
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def lab_exec(name: str, side: str, command: tuple[str, ...]) -> NoReturn:
    """Run COMMAND inside lab NAME, on side tg or dut; its exit status becomes this one's.

    Example: harness lab exec demo dut -- ip -s link
    """
    from harness.lab.vm import open_lab

    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("name a COMMAND to run")
    argv = open_lab(name).exec_argv(side, words)
    sys.stdout.flush()
    os.execv(argv[0], argv)
