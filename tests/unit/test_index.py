# SPDX-License-Identifier: Apache-2.0
"""The index of all runs: what RunReader reads and nothing else, up to date, closed to foreign SQL; and exports."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness.analysis.metrics import samples
from harness.cli import cli, invoke
from harness.errors import UsageError
from harness.index import cache
from harness.index.query import ask
from harness.index.schema import TABLES
from harness.rundata import load_run
from harness.store import Store
from tests.unit.report.synthetic import make_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("template"), run_id="r1", repeat=2)


@pytest.fixture
def results(template: Path, tmp_path: Path) -> Path:
    for name in ("r1", "r2"):
        shutil.copytree(template, tmp_path / name)
        change_info(tmp_path / name, run_id=name)
    return tmp_path


def change_info(run: Path, **fields: Any) -> None:
    file = run / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def sql(results: Path, query: str) -> list[tuple[Any, ...]]:
    said: list[str] = []
    with cache.opened(Store(results), said.append) as index:
        return ask(index, query).rows


def test_holds_every_metric_and_trial_that_a_run_has(results: Path) -> None:
    run = load_run(results / "r1")
    expected = {(point, metric.name, sample.repeat, sample.value, sample.at_least, " ".join(sample.verdicts))
                for point, metrics in samples(run).items() for metric, found in metrics.items() for sample in found}
    assert len(expected) > 100
    stored = sql(results, "SELECT point, metric, repeat, value, at_least, verdicts FROM metrics WHERE run = 'r1'")
    assert set(stored) == expected
    rows = sql(results, "SELECT number, sent, loss_ratio, p99_ns, busy_cores, verdicts FROM trials WHERE run = 'r2' "
                        "ORDER BY number")
    assert rows == [(t.number, t.sent, t.loss_ratio, t.latency and t.latency.p99_ns, t.cpu and t.cpu.busy_cores,
                     " ".join(t.verdicts)) for t in run.trials]
    status = dict(sql(results, "SELECT status, min(repeats_ok) FROM points GROUP BY 1"))
    assert status["failed"] == 0
    assert status["ok"] == 2


def test_losses_by_place_can_be_asked_for(results: Path) -> None:
    """By both ways of reading trials; a place that no counter told of is NULL and not 0."""
    file = results / "r1" / "trials.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[-1] |= {"losses": {"DUT ring": 30, "qdisc": 12}, "unread": {}}
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    query = ("SELECT CAST(losses->>'qdisc' AS BIGINT), CAST(losses->>'DUT ring' AS BIGINT), losses FROM trials "
             f"WHERE run = 'r1' AND number = {lines[-1]['number']}")
    fast = sql(results, query)
    assert fast == [(12, 30, '{"DUT ring":30,"qdisc":12}')]
    before = sql(results, "SELECT number, losses FROM trials WHERE run = 'r1' ORDER BY number")
    lines[-1] |= {"losses": {"DUT ring": 30}, "unread": {"qdisc": "the kernel does not tell"}}
    file.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    assert sql(results, query) == [(None, 30, '{"DUT ring":30,"qdisc":null}')]
    after = sql(results, "SELECT number, losses FROM trials WHERE run = 'r1' ORDER BY number")
    assert before[:-1] == after[:-1]
    assert any(losses != "{}" for _, losses in after[:-1])


def test_older_and_cut_lines_are_read_as_the_reader_does_and_a_broken_run_is_named(results: Path) -> None:
    trials = results / "r1" / "trials.jsonl"
    lines = trials.read_text().splitlines()
    older = lines[0].replace('"schema_version":4', '"schema_version":1')
    assert older != lines[0]
    trials.write_text(f"{older}\n{lines[1]}\n{lines[2][:50]}")
    shutil.copytree(results / "r2", results / "r3")
    assert sql(results, "SELECT problem FROM runs WHERE run = 'r2'") == [(None,)]
    (results / "r2" / "trials.jsonl").write_text("\n".join(
        (results / "r2" / "trials.jsonl").read_text().splitlines()[:-1]) + "\n")
    assert "lacks 1 of the trials" in sql(results, "SELECT problem FROM runs WHERE run = 'r2'")[0][0]
    (results / "r3" / "trials.jsonl").write_text(f"{lines[0]}\nnot JSON\n")
    shutil.copytree(results / "r2", results / "r4")
    change_info(results / "r4", schema_version=99)
    assert sql(results, "SELECT count(*) FROM trials WHERE run = 'r1'") == [(2,)]
    problems = dict(sql(results, "SELECT run, problem FROM runs WHERE state = 'unreadable'"))
    assert "trials.jsonl:2: not JSON" in problems["r3"]
    assert "newer harness" in problems["r4"]
    assert sql(results, "SELECT DISTINCT run FROM trials ORDER BY 1") == [("r1",), ("r2",)]
    answered = CliRunner().invoke(cli, ["results", "sql", "SELECT 1", "--results", str(results)])
    assert "r4 is left out" in answered.stderr


def test_what_the_generator_said_is_read_by_either_reader(results: Path) -> None:
    """The second run ends in a cut line, for which DuckDB's own reading is not trusted."""
    told = {"missed": 4, "link_out_gbps": 1.5, "link_in_gbps": None, "late_latency": 2, "nic": {"0": {"x": 4}}}
    for name, more in (("r1", ""), ("r2", '{"number": 9')):
        file = results / name / "trials.jsonl"
        first, *others = file.read_text().splitlines()
        changed = json.dumps({**json.loads(first), "counters": {"generator": told}, "generator_utilisation": 0.5})
        file.write_text("\n".join([changed, *others, more]))
    query = ("SELECT generator_utilisation, generator_missed, generator_link_out_gbps, generator_link_in_gbps, "
             "generator_late_latency FROM trials WHERE run = '{}' ORDER BY number LIMIT 2")
    for name in ("r1", "r2"):
        one, other = sql(results, query.format(name))
        assert one == (0.5, 4, 1.5, None, 2)
        assert other[1:] == (None,) * 4


def test_follows_the_files_and_reads_only_what_changed(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.index import fill

    read: list[str] = []
    add = fill.add_run

    def watched(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        read.append(path.name)
        add(connection, path)

    monkeypatch.setattr(fill, "add_run", watched)
    sql(results, "SELECT 1")
    sql(results, "SELECT 1")
    assert read == ["r1", "r2"]
    (results / "r2" / "points.jsonl").write_text("")
    shutil.rmtree(results / "r1")
    assert sql(results, "SELECT DISTINCT run FROM metrics") == []
    assert sql(results, "SELECT run FROM runs") == [("r2",)]
    assert read == ["r1", "r2", "r2"]
    assert [path.name for path in Store(results).runs()] == ["r2"]
    next((results / ".index").glob("*.duckdb")).write_bytes(b"rubbish")
    assert sql(results, "SELECT run FROM runs") == [("r2",)]
    assert not list((results / ".index").glob(".new-*"))


@pytest.mark.parametrize("query", [
    "SELECT * FROM read_text('{secret}')", "SELECT * FROM read_csv('{secret}')", "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('{folder}/*')", "COPY (SELECT 1) TO '{folder}/written'", "ATTACH '{folder}/written' AS w",
    "EXPORT DATABASE '{folder}/written'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true",
    "SELECT 1; SELECT 2", "CREATE TABLE t AS SELECT 1", "DROP VIEW runs", "DETACH results", "", "SELECT nothing",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/written'", "DELETE FROM results.runs"])
def test_foreign_sql_reaches_no_file_and_changes_nothing(results: Path, query: str) -> None:
    secret = results / "secret.csv"
    secret.write_text("hidden\n1\n")
    before = sorted(os.listdir(results))
    with cache.opened(Store(results), lambda _: None) as index:
        content = index.read_bytes()
        with pytest.raises(UsageError) as refused:
            ask(index, query.format(secret=secret, folder=results))
        assert index.read_bytes() == content
    assert "hidden" not in str(refused.value)
    assert sorted({*os.listdir(results)} - {".index"}) == before


def test_a_directory_that_cannot_be_written_is_still_answered(results: Path) -> None:
    (results / ".index").write_text("in the way")
    said: list[str] = []
    with cache.opened(Store(results), said.append) as index:
        assert ask(index, "SELECT count(*) FROM runs").rows == [(2,)]
    assert "cannot be written" in said[0]
    assert not index.exists()


def test_no_runs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["results", "sql", "SELECT 1", "--results", str(tmp_path)]) == 2
    assert "there are no runs" in capsys.readouterr().err


def test_answers_as_text_json_and_csv(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "SELECT NULL AS a, 'x' || chr(27) AS b, 'nan'::DOUBLE AS c, DATE '2026-01-02' AS d"
    printed = {}
    for option in ("--json", "--csv"):
        assert invoke(["results", "sql", query, "--results", str(results), option]) == 0
        printed[option] = capsys.readouterr().out
    assert json.loads(printed["--json"])["rows"] == [[None, "x\x1b", None, "2026-01-02"]]
    assert printed["--csv"].startswith("a,b,c,d\n,x")
    assert invoke(["results", "sql", query, "--results", str(results)]) == 0
    text = capsys.readouterr().out
    assert "n/a" in text
    assert "\x1b" not in text


def test_exports_parse_and_hold_the_same_numbers(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "out's.parquet"
    where = ["--results", str(results)]
    assert invoke(["results", "export", "r1", "--format", "parquet", "--table", "metrics", "-o", str(out), *where]) == 0
    stored = duckdb.read_parquet(str(out)).order("ALL").fetchall()
    assert stored == sql(results, "SELECT * FROM metrics WHERE run = 'r1' ORDER BY ALL")
    answered = CliRunner().invoke(cli, ["results", "export", "r1", "r2", "--format", "openmetrics", *where])
    families = {family.name: family for family in text_string_to_metric_families(answered.stdout)}
    assert set(families) == {"netstack_rate_pps", "netstack_latency_seconds", "netstack_busy_cores",
                             "netstack_packet_cycles", "netstack_loss_ratio"}
    latency = {(s.labels["run"], s.labels["point"], int(s.labels["repeat"]), round(s.value * 1e9))
               for s in families["netstack_latency_seconds"].samples
               if s.labels["percentile"] == "p99" and s.labels["fraction"] == "0.5"}
    assert latency == set(sql(results, "SELECT run, point, repeat, value::BIGINT FROM metrics WHERE metric = "
                                       "'latency.p99@50%'"))
    assert len(latency) > 4


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_exports_folders_are_made_and_the_file_is_named(results: Path, tmp_path: Path, form: str,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder" / "out"
    command = ["results", "export", "r1", "--format", form, "--results", str(results), "-o"]
    assert invoke([*command, str(out)]) == 0
    assert out.stat().st_size > 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"written: {out}\n")
    assert invoke([*command, str(out / "below")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "message"), [
    (["--format", "parquet"], "-o FILE.parquet"), (["--format", "openmetrics", "--table", "trials"], "holds metrics")])
def test_what_an_export_cannot_be_is_said(results: Path, options: list[str], message: str,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["results", "export", "r1", *options, "--results", str(results)]) == 2
    assert message in capsys.readouterr().err


def test_every_column_is_documented() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    for table, columns in TABLES.items():
        section = text.split(f"### {table}\n")[1].split("\n### ")[0]
        assert [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")] == list(columns)
