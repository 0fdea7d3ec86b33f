# SPDX-License-Identifier: Apache-2.0
"""The command: exit codes, one message for a mistake, JSON where a program reads, nothing touched before a run."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from harness import cli
from harness.errors import EXIT_INTERRUPTED, TestbedError
from harness.options import RunOptions
from harness.progress import Reporter
from harness.records import (
    Bound,
    LatencyAt,
    Percentiles,
    Phase,
    PointOutcome,
    RunInfo,
    Trial,
    Verdict,
)
from harness.store import Store, now

Write = Callable[..., Path]
Capture = pytest.CaptureFixture[str]

SCENARIO = """\
name: test
role: echo
stacks: [sockets]
measure: {throughput: {}}
"""


def commands() -> list[list[str]]:
    """Every command and group, as the words that name it."""
    found: list[list[str]] = []

    def walk(group: click.Group, words: list[str]) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            found.append([*words, name])
            if isinstance(command, click.Group):
                walk(command, [*words, name])

    walk(cli.cli, [])
    return [words for words in found if words != ["xdpgen"]]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_has_help(words: list[str], capsys: Capture) -> None:
    assert cli.invoke([*words, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"harness {' '.join(words)}" in text
    assert len(text.splitlines()) > 4


def test_help_imports_nothing_heavy() -> None:
    """Of the harness and of every command."""
    heavy = ("pydantic", "paramiko", "matplotlib", "zmq", "pandas", "rich", "numpy", "scipy", "duckdb", "jinja2")
    code = ("import sys\nfrom contextlib import suppress\nfrom harness.cli import invoke\n"
            f"for words in {[[], ['xdpgen'], *commands()]!r}:\n"
            "    with suppress(SystemExit):\n        assert invoke([*words, '--help']) == 0\n"
            f"print([name for name in {heavy!r} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.usefixtures("fake_stacks")
def test_a_dry_run_prints_the_plan_and_makes_nothing(write: Write, tmp_path: Path, capsys: Capture) -> None:
    results = tmp_path / "results"
    assert cli.invoke(["run", str(write(SCENARIO)), "--dry-run", "--seed", "7", "--results", str(results)]) == 0
    text = capsys.readouterr().out
    assert "seed 7" in text
    assert "the quieter of cores" in text
    assert not results.exists()


@pytest.mark.usefixtures("fake_stacks")
def test_results_that_cannot_be_kept_are_refused_before_a_lab(write: Write, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "taken").write_text("")
    assert cli.invoke(["run", str(write(SCENARIO)), "--results", str(tmp_path / "taken")]) == 2
    captured = capsys.readouterr()
    assert "results cannot be kept there: Not a directory" in captured.err
    assert "building the lab" not in captured.err


@pytest.mark.usefixtures("fake_stacks")
def test_a_dry_run_as_json(write: Write, capsys: Capture) -> None:
    assert cli.invoke(["run", str(write(SCENARIO)), "--dry-run", "--json", "--repeat", "3"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["measure"]["repeat"], len(plan["sequence"])) == (3, 3)


@pytest.mark.usefixtures("fake_stacks")
@pytest.mark.parametrize(("content", "says"), [
    ("", "the file is empty"),
    (b"\0\1\2", "not a text file"),
    ("a: 1\na: 2\n", "key given twice"),
    (SCENARIO.replace("sockets", "socketz"), "did you mean 'sockets'?"),
    (SCENARIO.replace("echo", "forward"), "has no role forward"),
    (SCENARIO + "cores: 5000\n", "too large"),
    (SCENARIO + "cores: 1000\n", "more than there are"),
    (SCENARIO + "traffic: {frame: 10}\n", "at least 64"),
    (SCENARIO + "testbed: nowhere.yaml\n", "nowhere.yaml: cannot be read"),
    (SCENARIO + "testbed: ~no-such-user/bed.yaml\n", "write the whole path"),
])
def test_a_bad_scenario_is_one_message_and_exit_2(
        write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, content: str | bytes, says: str,
) -> None:
    path, results = write(content), tmp_path / "results"
    for command in (["run", str(path), "--dry-run"], ["scenarios", "check", str(path)]):
        assert cli.invoke(command) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("harness: ")
        assert says in captured.err
        assert len(captured.err.splitlines()) == 1
    assert not results.exists()


@pytest.mark.parametrize("argv", [["nothing"], ["run"], ["run", "x.yaml", "--repeat", "0"], ["lab", "exec", "a", "b"],
                                  ["report"], ["run", "x.yaml", "--repeta", "3"]])
def test_a_wrong_command_line_is_exit_2(argv: list[str], capsys: Capture) -> None:
    assert cli.invoke(argv) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[RunOptions, Reporter], int]], None]:
    """Put a function in the runner's place."""
    def replace(run: Callable[[RunOptions, Reporter], int]) -> None:
        module = types.ModuleType("harness.runner")
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "harness.runner", module)
        monkeypatch.setattr("harness.runner", module, raising=False)
        monkeypatch.setattr("harness.commands.run.interrupt_on_termination", lambda: None)

    return replace


def test_run_hands_the_options_over(runs: Callable[..., None], tmp_path: Path, capsys: Capture) -> None:
    seen: list[RunOptions] = []

    def run(options: RunOptions, progress: Reporter) -> int:
        seen.append(options)
        progress.run_done(tmp_path / "r1", 4)
        return 4

    runs(run)
    argv = ["run", "s.yaml", "--testbed", "bed.yaml", "--only", "a", "--only", "b", "--repeat", "2", "--seed", "9",
            "--results", "out"]
    assert cli.invoke(argv) == 4
    options, = seen
    assert (options.scenario, options.testbed, options.only) == (Path("s.yaml"), "bed.yaml", ("a", "b"))
    assert (options.repeat, options.seed, options.results) == (2, 9, Path("out"))
    assert capsys.readouterr().out == f"results: {tmp_path / 'r1'}\n"


def test_run_with_a_report(runs: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                           capsys: Capture) -> None:
    def run(options: RunOptions, progress: Reporter) -> int:
        progress.run_done(tmp_path / "r1", 0)
        return 0

    runs(run)
    monkeypatch.setattr("harness.report.write_report",
                        lambda dirs, output, references: Path("reports") / f"{dirs[0].name}.html")
    assert cli.invoke(["run", "s.yaml", "--report", "--json"]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["event"] for line in captured.out.splitlines()] == ["run_done"]
    assert "report: reports/r1.html" in captured.err


@pytest.mark.parametrize(("error", "code", "says"), [
    (KeyboardInterrupt(), EXIT_INTERRUPTED, "harness: interrupted"),
    (TestbedError("no veth here; modprobe veth"), 3, "harness: no veth here; modprobe veth"),
    (ZeroDivisionError("oops"), 4, "this is a defect of the harness"),
])
def test_errors_become_exit_codes(runs: Callable[..., None], tmp_path: Path, capsys: Capture, error: BaseException,
                                  code: int, says: str) -> None:
    def run(options: RunOptions, progress: Reporter) -> int:
        progress.run_dir = tmp_path / "r1"
        raise error

    runs(run)
    assert cli.invoke(["run", "s.yaml"]) == code
    err = capsys.readouterr().err
    assert says in err
    assert f"`harness report {tmp_path / 'r1'}` shows it" in err
    assert ("Traceback" in err) == isinstance(error, ZeroDivisionError)


def test_a_broken_pipe_is_quiet() -> None:
    code = "from harness.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, "scenarios", "schema"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stream:
        assert stream.read() == ""
    assert process.wait(30) == cli.EXIT_PIPE


def test_the_shipped_scenarios_are_listed(capsys: Capture) -> None:
    assert cli.invoke(["scenarios", "list", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {"quickstart", "forward-64b", "drop-64b"} <= set(listed)
    assert all(entry["description"] and "problem" not in entry for entry in listed.values())
    assert cli.invoke(["scenarios", "list"]) == 0
    assert "quickstart" in capsys.readouterr().out


def test_the_shipped_scenarios_fit_the_shipped_stacks(capsys: Capture) -> None:
    cli.invoke(["scenarios", "list", "--json"])
    files = [entry["file"] for entry in json.loads(capsys.readouterr().out)]
    assert cli.invoke(["scenarios", "check", *files, "--json"]) == 0
    checked = {Path(entry["file"]).stem: entry for entry in json.loads(capsys.readouterr().out)}
    assert checked["quickstart"]["points"] == 4
    assert checked["quickstart"]["seconds"] <= 300


@pytest.mark.parametrize("argv", [[], ["--testbed"]])
def test_the_schemas_are_json(argv: list[str], capsys: Capture) -> None:
    assert cli.invoke(["scenarios", "schema", *argv]) == 0
    assert json.loads(capsys.readouterr().out)["type"] == "object"


@pytest.mark.usefixtures("fake_stacks")
def test_stacks_are_listed(capsys: Capture) -> None:
    assert cli.invoke(["stacks", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "bypass   drop, reflect, forward  everything but echo, polling",
        "sockets  echo, drop, accept      an echo over sockets"]
    assert cli.invoke(["stacks", "list", "--json"]) == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == ["bypass", "sockets"]


@pytest.mark.usefixtures("fake_stacks")
def test_a_stack_is_shown_with_its_parameters(capsys: Capture) -> None:
    assert cli.invoke(["stacks", "show", "sockets"]) == 0
    text = capsys.readouterr().out
    assert "reuseport (bool, default false): One socket a worker" in text
    assert "mode (block | spin, default block): How a worker waits" in text
    assert "- sockets: {reuseport: false}" in text
    assert cli.invoke(["stacks", "show", "sockets", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["properties"]["buffer"]["minimum"] == 1024
    assert cli.invoke(["stacks", "show", "socket"]) == 2
    assert "sockets" in capsys.readouterr().err


def stored_run(results: Path) -> str:
    """A made-up run with one trial and two points, one of which failed."""
    point = {"id": "p1", "label": "a stack", "stack": "sockets", "params": {"reuseport": True}, "host": "dut",
             "frame_bytes": 64, "cores": [1, 2]}
    info = RunInfo(run_id="20260101-test", harness_version="0", started_at=now(), command=[], scenario_text="",
                   scenario={}, plan={"scenario": "test", "testbed": "lab", "points": [point]}, seed=1)
    latency = Percentiles(samples=20_000, lost=0, out_of_order=0, duplicate=0, min_ns=1, max_ns=9000, mean_ns=5,
                          jitter_ns=1, p50_ns=5000, p90_ns=6000, p99_ns=25_000, p999_ns=None, resolution_ns=1)
    with Store(results).create(info) as writer:
        writer.add_trial(Trial(number=1, point="p1", repeat=0, phase=Phase.LATENCY, started_at=now(), asked_pps=1000,
                               duration_s=1, real_s=1, latency=latency, verdicts=[Verdict.LAB, Verdict.PAUSED]))
        bound = Bound(pps=123_400, load_pps=123_400, upper_pps=130_000)
        at = LatencyAt(fraction=0.5, of="pdr", load_pps=61_000, trial=1, percentiles=latency)
        writer.add_outcome(PointOutcome(point="p1", repeat=0, ndr=bound, latency=[at], verdicts=[Verdict.LAB]))
        writer.add_outcome(PointOutcome(point="p2", repeat=0, status="failed", reason="it died"))
        writer.finish("complete", 4)
    return info.run_id


def test_results_are_listed_shown_and_exported(tmp_path: Path, capsys: Capture) -> None:
    run_id = stored_run(tmp_path)
    where = ["--results", str(tmp_path)]
    assert cli.invoke(["results", "list", *where]) == 0
    assert f"{run_id}  complete" in capsys.readouterr().out
    assert cli.invoke(["results", "list", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)[0]["exit_code"] == 4

    assert cli.invoke(["results", "show", "latest", *where]) == 0
    text = capsys.readouterr().out
    assert "123.4 kpps" in text
    assert "25us at 50% PDR" in text
    assert "failed: it died" in text
    assert cli.invoke(["results", "show", "2026", "--json", *where]) == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == 2

    assert cli.invoke(["results", "export", run_id, *where]) == 0
    row, = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["run"], row["phase"], row["p99_ns"], row["p999_ns"]) == (run_id, "latency", "25000", "")
    assert [row[name] for name in ("stack", "params", "host", "frame_bytes", "cores")] == [
        "sockets", '{"reuseport": true}', "dut", "64", "1 2"]
    assert row["verdicts"] == "paused lab" or row["verdicts"] == "lab paused"
    assert cli.invoke(["results", "export", run_id, "-o", str(tmp_path / "trials.csv"), *where]) == 0
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 2


def test_without_results(tmp_path: Path, capsys: Capture) -> None:
    where = ["--results", str(tmp_path / "none")]
    assert cli.invoke(["results", "list", *where]) == 0
    assert "no runs in" in capsys.readouterr().out
    assert cli.invoke(["results", "show", "latest", *where]) == 2
    assert cli.invoke(["report", "latest", *where]) == 2


def test_a_report_is_written_about_runs_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: Capture) -> None:
    run_id = stored_run(tmp_path)
    asked: list[tuple[list[Path], Path | None, bool]] = []

    def write_report(directories: list[Path], output: Path | None, *, references: bool) -> Path:
        asked.append((directories, output, references))
        return Path("page.html")

    monkeypatch.setattr("harness.report.write_report", write_report)
    assert cli.invoke(["report", "latest", "-o", "page.html", "--results", str(tmp_path), "--json"]) == 0
    assert asked == [([tmp_path / run_id], Path("page.html"), False)]
    assert json.loads(capsys.readouterr().out) == {"report": "page.html"}


def test_lab_status_as_json(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    from harness.lab import Lab, LabStatus

    status = LabStatus("abc", "up", True, None, 0.0, ("nsh-abc-tg",), (0,), (1,), ((12, "sshd"),))
    monkeypatch.setattr(Lab, "status", classmethod(lambda cls: [status]))
    assert cli.invoke(["lab", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "abc"
    assert cli.invoke(["lab", "status"]) == 0
    text = capsys.readouterr().out
    assert "sshd (12)" in text
    assert "harness lab down" not in text
    stale = LabStatus("def", "stale", False, 7, 0.0, ("nsh-def-tg",), (0,), (1,), ())
    monkeypatch.setattr(Lab, "status", classmethod(lambda cls: [status, stale]))
    assert cli.invoke(["lab", "status"]) == 0
    assert "def: the command that made it is gone; `harness lab down` removes it" in capsys.readouterr().out


def test_lab_down_without_a_name_leaves_labs_in_use_alone(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    from harness.lab import Lab, LabStatus

    labs = [LabStatus(name, "up", owner is None, owner, 0.0, (), (), (), ()) for name, owner in (("a", None), ("b", 5))]
    downed: list[str] = []
    monkeypatch.setattr(Lab, "clean_stale", classmethod(lambda cls: ["s"]))
    monkeypatch.setattr(Lab, "status", classmethod(lambda cls: labs))
    monkeypatch.setattr(Lab, "down", classmethod(lambda cls, name: downed.append(name)))
    assert cli.invoke(["lab", "down", "--json"]) == 0
    assert downed == ["a"]
    assert json.loads(capsys.readouterr().out) == {"removed": ["s", "a"]}


def test_the_bare_name_of_a_shipped_scenario_is_answered_with_its_file(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.invoke(["run", "quickstart", "--dry-run"]) == 2
    file = Path(capsys.readouterr().err.strip().rsplit(" ", 1)[1])
    assert cli.invoke(["run", str(file), "--dry-run"]) == 0
    capsys.readouterr()
    assert cli.invoke(["run", "slowstart", "--dry-run"]) == 2
    assert "cannot be read" in capsys.readouterr().err
