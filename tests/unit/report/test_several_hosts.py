# SPDX-License-Identifier: Apache-2.0
"""Runs of one scenario on several hosts: every figure says whose it is, and none is of two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import cli
from harness.analysis.environment import differences
from harness.analysis.sides import views
from harness.report.charts.catalogue import draw_all
from harness.report.charts.material import Material
from harness.report.headline import answer
from harness.report.identity import looks
from harness.report.page import render
from harness.report.sidebyside import facets, side_by_side
from harness.report.summarise import summarise
from harness.report.tables import name_points
from harness.rundata import RunData, load_run
from tests.unit.report.synthetic import MODELS, Model, make_run

UDP, XDP = MODELS[1], MODELS[3]
HOSTS = ("sut1", "sut2")


def two_hosts(results: Path, run_id: str, measured: tuple[str, ...] = HOSTS) -> RunData:
    """linux-udp and xdp on each host, as the planner names them; on sut2 twice as fast. The plan has them by host."""
    models = tuple(
        Model(m.stack, f"{m.label}, on {host}", m.params, m.cores,
              *(rate * (1 + (host == "sut2")) for rate in (m.ndr, m.pdr, m.mrr)), m.p50_us)
        for host in measured for m in (UDP, XDP))
    folder = make_run(results, run_id=run_id, models=models)
    path = folder / "run.json"
    told = json.loads(path.read_text())
    for point in told["plan"]["points"]:
        point["host"] = point["label"].split(", on ")[1].split(",")[0]
        point["label"] = point["label"].removesuffix(", 1 core")
    told["plan"]["hosts"] = [{**told["plan"]["hosts"][0], "name": host} for host in HOSTS]
    told["plan"]["lab"] = False
    facts = told["hosts"].pop("dut")
    told["hosts"] |= {host: json.loads(json.dumps(facts).replace("6.1", f"6.{host[-1]}")) for host in measured}
    path.write_text(json.dumps(told))
    return load_run(folder)


def test_the_report_names_the_host_of_every_figure(tmp_path: Path) -> None:
    run = two_hosts(tmp_path, "r1")
    points = summarise(run)
    assert [(p.plan.stack, p.plan.host) for p in points] == [
        ("linux-udp", "sut1"), ("linux-udp", "sut2"), ("xdp", "sut1"), ("xdp", "sut2")], "equals beside each other"
    colours = looks(p.plan for p in points)
    drawn = [colours[key] for key in colours]
    assert len({(look.colour, look.marker, look.line) for look in drawn}) == 4
    said = answer(run, points, colours)
    assert "xdp on sut2 echoes" in said.headline
    assert "xdp on sut1" in said.headline
    assert "2 stack configurations on 2 hosts (sut1, sut2)" in said.deck[0]
    for kind, pictures in draw_all(Material.of(run)).pictures.items():
        for picture in pictures:
            assert {row["host"] for row in picture.data} <= set(HOSTS), kind
            assert all(f"xdp on {host}" in picture.description for host in HOSTS), kind
    names = name_points(points, colours, "")
    assert {facet["Host"] for facet in facets([points], [names]).values()} == set(HOSTS)
    page = render([run])
    assert page.count("xdp on sut1") > 3
    assert page.count("xdp on sut2") > 3


def test_runs_are_compared_host_by_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [two_hosts(tmp_path, "r1"), two_hosts(tmp_path, "r2")]
    places = [set(view.points) for view in views(runs)]
    assert places[0] == places[1]
    assert sorted(place.title for place in places[0]) == [
        "linux-udp reuseport=true, 1 core, 64 B, sut1", "linux-udp reuseport=true, 1 core, 64 B, sut2",
        "xdp, 1 core, 64 B, sut1", "xdp, 1 core, 64 B, sut2"]
    summaries = [summarise(run) for run in runs]
    colours = looks(p.plan for points in summaries for p in points)
    names = [name_points(points, colours, f"r{n}-") for n, points in enumerate(summaries)]
    table = side_by_side(runs, summaries, names, colours, ["r1-", "r2-"])
    assert (len(table.rows), table.shared) == (4, 4)
    assert len({label for label, *_ in table.rows}) == 4
    assert cli.invoke(["compare", str(tmp_path / "r1"), str(tmp_path / "r2")]) == 0
    assert "sut2" in capsys.readouterr().out


def test_a_host_that_one_run_leaves_out_is_no_difference(tmp_path: Path) -> None:
    whole, part = two_hosts(tmp_path, "r1"), two_hosts(tmp_path, "r2", ("sut2",))
    assert differences(whole.info, part.info) == []
    other, same = (next(iter(view.points.items())) for view in views([part, whole]))
    assert other[0].key == same[0].key
