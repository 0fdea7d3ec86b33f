# SPDX-License-Identifier: Apache-2.0
"""The ``harness`` command: parse, call, print. No logic, and nothing heavy is imported before a command needs it.

Exit codes are those of :mod:`harness.errors`; 141 when whoever read the output went away (as a shell reports SIGPIPE).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from harness import __version__
from harness.errors import EXIT_INTERRUPTED, HarnessError, MeasurementError, UsageError

EXIT_PIPE = 128 + signal.SIGPIPE
_FILE = click.Path(path_type=Path)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_results = click.option("--results", type=_FILE, default=Path("results"), show_default=True, metavar="DIR",
                        help="Directory of the runs.")


class _Cli(click.Group):
    """click would end on a broken pipe with 1, which is kept for a gate that fails."""

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

    Exit codes: 0 done, 2 usage or file error, 3 testbed not fit, 4 measurement failed or incomplete, 130 interrupted.
    """


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1))


# --------------------------------------------------------------------------------------------------------------- run


@cli.command()
@click.argument("scenario", type=_FILE)
@click.option("--testbed", metavar="FILE", help="Testbed file, or `lab`; what the scenario says when left out.")
@click.option("--only", multiple=True, metavar="STACK", help="Measure this stack (or point) only; may be repeated.")
@click.option("--repeat", type=click.IntRange(1, 1000), metavar="N", help="Rounds, instead of the scenario's.")
@_results
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Seed of the order, to repeat that of another run.")
@click.option("--report", "with_report", is_flag=True, help="Write the report too.")
@click.option("--dry-run", is_flag=True, help="Print the plan, the number of trials and the time; touch nothing.")
@click.option("-q", "--quiet", is_flag=True, help="One line a point.")
@_json
def run(scenario: Path, testbed: str | None, only: tuple[str, ...], repeat: int | None, results: Path, seed: int | None,
        with_report: bool, dry_run: bool, quiet: bool, as_json: bool) -> int:
    """Measure what SCENARIO says, on its testbed.

    On the lab this needs root. Everything changed is undone at the end, also after Ctrl-C; what was measured is kept.
    With --json every step is one JSON object a line.
    """
    from harness.options import RunOptions

    options = RunOptions(scenario, testbed, only, repeat, results, seed, tuple(sys.argv))
    if dry_run:
        return _dry_run(options, as_json)
    from harness import runner
    from harness.progress import make_progress

    _interrupt_on_termination()
    progress = make_progress(as_json=as_json, out=sys.stdout, err=sys.stderr, quiet=quiet)
    try:
        with progress:
            code = runner.run(options, progress)
    except BaseException:
        if progress.run_dir is not None:
            click.echo(f"what was measured is kept; `harness report {progress.run_dir}` shows it", err=True)
        raise
    if progress.run_dir is not None:
        click.echo(f"results: {progress.run_dir}", err=as_json)
        if with_report:
            _write_report([progress.run_dir], None, to_stderr=as_json)
    return code


def _dry_run(options: Any, as_json: bool) -> int:
    import dataclasses

    from harness.planview import render_plan
    from harness.prepare import prepare

    plan = prepare(options).plan
    if as_json:
        _print_json(dataclasses.asdict(plan))
    else:
        click.echo(render_plan(plan))
    return 0


@cli.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="File to write; reports/RUN.html when left out.")
@_results
@_json
def report(runs: tuple[str, ...], output: Path | None, results: Path, as_json: bool) -> int:
    """Write one HTML page about one or several RUNs.

    A run is named by its directory, its id, the beginning of its id, or `latest`.
    """
    from harness.store import Store

    store = Store(results)
    directories = [store.open(name).path for name in runs]
    if not as_json:
        _write_report(directories, output)
        return 0
    from harness.report import write_report

    _print_json({"report": str(write_report(directories, output))})
    return 0


def _write_report(directories: Sequence[Path], output: Path | None, *, to_stderr: bool = False) -> None:
    from harness.report import write_report

    click.echo(f"report: {write_report(directories, output)}", err=to_stderr)


# --------------------------------------------------------------------------------------------------------------- lab


@cli.group()
def lab() -> None:
    """The lab on this machine: two namespaces, virtual wires, an SSH server. Needs root.

    `harness run` brings its own lab; these commands are for looking around in one.
    """


@lab.command("up")
@click.option("--name", metavar="NAME", help="1 to 8 of a-z and 0-9; chosen when left out.")
@click.option("--wires", type=click.IntRange(1, 4), default=2, show_default=True, metavar="N", help="Number of wires.")
@click.option("--dut", type=click.Choice(["netns", "vm"]), default="netns", show_default=True,
              help="A namespace, or a virtual machine with its own kernel and PCI NICs.")
@click.option("--nic", type=click.Choice(["vmxnet3", "e1000", "virtio-net-pci"]), default="vmxnet3", show_default=True,
              help="Virtual machine: model of its test ports.")
@click.option("--memory", type=click.IntRange(512, 65536), default=1536, show_default=True, metavar="MIB",
              help="Virtual machine: memory.")
@click.option("--accel", type=click.Choice(["auto", "kvm", "tcg"]), default="auto", show_default=True,
              help="Virtual machine: KVM where it works, or translation, slow.")
@_json
def lab_up(name: str | None, wires: int, dut: str, nic: str, memory: int, accel: str, as_json: bool) -> int:
    """Build a lab that stays until `harness lab down`.

    With `--dut vm` the first call builds the guest's disk from Debian packages (minutes); it is kept in ~/.cache. What
    is printed at the end is a testbed file for `harness run SCENARIO --testbed FILE`.
    """
    from harness.lab import Lab
    from harness.lab.vm import Machine, VmLab
    from harness.listing import labs_data, labs_text

    _interrupt_on_termination()
    made: Lab
    if dut == "vm":
        machine = Machine(nic=nic, memory_mib=memory, accelerator=accel)
        made = VmLab.up(name, wires=wires, persistent=True, machine=machine,
                        say=lambda text: click.echo(text, err=True))
    else:
        made = Lab.up(name, wires=wires, persistent=True)
    labs = [status for status in Lab.status() if status.name == made.name]
    testbed = str(made.testbed_file) if isinstance(made, VmLab) else ""
    if as_json:
        _print_json(labs_data(labs)[0] | ({"testbed": testbed} if testbed else {}))
    else:
        click.echo(labs_text(labs))
        click.echo(f"harness lab exec {made.name} dut -- ip addr     # a command in it\n"
                   f"harness lab down {made.name}                    # remove it")
        if testbed:
            click.echo(f"testbed: {testbed}")
    return 0


@lab.command("down")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_json
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
        _print_json({"removed": removed})
    else:
        click.echo(f"removed: {', '.join(removed)}" if removed else "there was no lab to remove")
    return 0


@lab.command("status")
@_json
def lab_status(as_json: bool) -> int:
    """List the labs of this machine and what runs in them. Changes nothing."""
    from harness.lab import Lab
    from harness.listing import labs_data, labs_text

    labs = Lab.status()
    if as_json:
        _print_json(labs_data(labs))
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


# ------------------------------------------------------------------------------------------------ stacks, scenarios


@cli.group("stacks")
def stacks_group() -> None:
    """The stacks that can be compared."""


@stacks_group.command("list")
@_json
def stacks_list(as_json: bool) -> int:
    """List all stacks with their roles."""
    from harness import listing

    if as_json:
        _print_json(listing.stacks_data())
    else:
        click.echo(listing.stacks_text())
    return 0


@stacks_group.command("show")
@click.argument("name")
@_json
def stacks_show(name: str, as_json: bool) -> int:
    """Show one stack: what it does in each role, its parameters."""
    from harness import listing

    if as_json:
        _print_json(listing.stack_data(name))
    else:
        click.echo(listing.stack_text(name))
    return 0


@cli.group()
def scenarios() -> None:
    """Scenario files: what is measured."""


@scenarios.command("list")
@_json
def scenarios_list(as_json: bool) -> int:
    """List the scenarios that come with the harness."""
    from harness import listing

    if as_json:
        _print_json(listing.scenarios_data())
    else:
        click.echo(listing.scenarios_text())
    return 0


@scenarios.command("check")
@click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")
@click.option("--testbed", metavar="FILE", help="Check against this testbed, or `lab`.")
@_json
def scenarios_check(files: tuple[Path, ...], testbed: str | None, as_json: bool) -> int:
    """Check scenario FILEs, their stacks and their testbed. Contacts no machine, changes nothing."""
    from harness.options import RunOptions
    from harness.prepare import prepare

    checked, problems = [], []
    for file in files:
        try:
            plan = prepare(RunOptions(file, testbed, seed=0)).plan
        except HarnessError as error:
            problems.append(error)
            checked.append({"file": str(file), "ok": False, "problem": str(error)})
        else:
            checked.append({"file": str(file), "ok": True, "points": len(plan.points), "trials": plan.expected_trials,
                            "seconds": plan.expected_s})
    if as_json:
        _print_json(checked)
    for entry in checked if not as_json else ():
        if entry["ok"]:
            click.echo(f"{entry['file']}: ok, {entry['points']} points, about {entry['trials']} trials")
    for problem in problems:
        click.echo(f"harness: {problem}", err=True)
    return max((problem.exit_code for problem in problems), default=0)


@scenarios.command("schema")
@click.option("--testbed", is_flag=True, help="The schema of testbed files instead.")
def scenarios_schema(testbed: bool) -> int:
    """Print the JSON Schema of scenario files, for editors."""
    if testbed:
        from harness.testbed import json_schema
    else:
        from harness.scenario import json_schema
    _print_json(json_schema())
    return 0


# ----------------------------------------------------------------------------------------------------------- results


@cli.group("results")
def results_group() -> None:
    """Runs and what they measured."""


@results_group.command("list")
@_results
@_json
def results_list(results: Path, as_json: bool) -> int:
    """List all runs, oldest first."""
    from harness import listing
    from harness.store import Store

    if as_json:
        _print_json(listing.results_data(Store(results)))
    else:
        click.echo(listing.results_text(Store(results)))
    return 0


@results_group.command("show")
@click.argument("name", metavar="RUN")
@_results
@_json
def results_show(name: str, results: Path, as_json: bool) -> int:
    """Show what RUN measured, a line a point. RUN is an id, the beginning of one, a directory, or `latest`."""
    from harness import listing
    from harness.store import Store

    reader = Store(results).open(name)
    if as_json:
        _print_json(listing.result_data(reader))
    else:
        click.echo(listing.result_text(reader))
    return 0


@results_group.command("export")
@click.argument("names", nargs=-1, required=True, metavar="RUN...")
@click.option("-o", "--output", type=_FILE, metavar="FILE", help="File to write; standard output when left out.")
@_results
def results_export(names: tuple[str, ...], output: Path | None, results: Path) -> int:
    """Write every trial of RUNs as CSV, rates in frames per second per direction."""
    from harness.analysis.table import trials_table
    from harness.store import Store, write_atomically

    store = Store(results)
    text = trials_table([store.open(name) for name in names]).to_csv(index=False, lineterminator="\n")
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        write_atomically(output, text)
    except OSError as error:
        raise UsageError(f"{output}: cannot be written: {error.strerror}") from None
    return 0


# ------------------------------------------------------------------------------------------------------------ xdpgen


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def xdpgen(arguments: tuple[str, ...]) -> int:
    """The embedded generator alone: a server that speaks TRex's RPC (see `harness xdpgen --help`)."""
    from harness.generator.xdpgen.__main__ import main as serve

    return serve(list(arguments))


# -------------------------------------------------------------------------------------------------------------- main


def _interrupt_on_termination() -> None:
    """TERM and HUP end a command as Ctrl-C does: everything is undone first."""
    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


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
        click.echo(f"harness: {error}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("harness: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Exception:  # noqa: BLE001 - a defect of the harness: show it, and never with the exit code of a failed gate
        traceback.print_exc()
        click.echo("harness: this is a defect of the harness; please report it with the lines above", err=True)
        return MeasurementError.exit_code


def main() -> NoReturn:
    """Entry point of the ``harness`` command."""
    sys.exit(invoke())
