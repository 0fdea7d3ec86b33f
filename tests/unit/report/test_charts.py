# SPDX-License-Identifier: Apache-2.0
"""Charts: what they are made of, that their words do not overlap, their colours, and the files they become."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.patches import Rectangle
from PIL import Image

from harness.analysis.statistics import interval
from harness.commands.charts import charts as charts_command
from harness.plan import Role
from harness.records import Phase, Verdict
from harness.report import palette
from harness.report.charts.canvas import PHONE, WIDE, drawing, drawn, fitted, text_width, wrapped
from harness.report.charts.catalogue import KINDS, draw_all
from harness.report.charts.files import SIZES, provenance, table
from harness.report.charts.latency import curve
from harness.report.charts.material import LETTERS, Material
from harness.report.charts.spans import span
from harness.report.identity import looks
from harness.report.summarise import PointSummary
from harness.rundata import RunData
from tests.unit.report.many import COUNTS, PUBLISHED, STACKS, many
from tests.unit.report.overlap import composed, overlaps
from tests.unit.report.synthetic import MODELS, make_run, point_plan


@pytest.mark.parametrize(("stacks", "counts", "kind"), [
    (12, (1,), "throughput"), (12, (1,), "cost"), (12, COUNTS, "scaling"), (2, (64,), "cpu")])
def test_no_words_overlap(stacks: int, counts: tuple[int, ...], kind: str) -> None:
    """The fullest of a few; tests/browser has them all."""
    run = many(stacks, counts)
    (picture,) = KINDS[kind][0](Material.of(run, PUBLISHED))
    assert composed(picture, SIZES["slide"], provenance(run)) == []
    assert composed(picture, PHONE, provenance(run)) == []


def test_the_check_sees_an_overlap() -> None:
    with drawing(WIDE):
        figure = drawn(next(iter(KINDS["cost"][0](Material.of(many(2))))), WIDE)
        figure.text(0.5, 0.5, "one over")
        figure.text(0.505, 0.5, "the other")
        figure.text(0.99, 0.9, "beyond the edge")
        assert len(overlaps(figure)) == 2


def test_every_chart_says_what_it_shows() -> None:
    run = many(6, (1, 4), repeat=2)
    found = draw_all(Material.of(run, PUBLISHED))
    assert list(found.pictures) == list(KINDS)
    assert found.missing == {}
    for picture in found.all():
        assert "64 B frames" in picture.title
        assert any(unit in picture.title for unit in ("kpps", "Mpps", "µs", "core-%", "cycles", "%")), picture.title
        assert picture.data
        assert all({"run", "stack", "cores", "frame"} <= set(row) for row in picture.data)
    about = provenance(run)
    for word in ("Simulated CPU", "kernel 6.18.0-simulated", "2025-11-22", "2 repeats", "virtual wire",
                 "run 20260101-000000-simulated-6x4"):
        assert word in about


def test_the_data_is_what_the_run_found() -> None:
    run = many(3, (1, 2), repeat=2)
    made = Material.of(run)
    rows = [row for picture in KINDS["throughput"][0](made) for row in picture.data]
    for point in made.points:
        mine = [row for row in rows if row["label"] == point.plan.label]
        assert [row["median_pps"] for row in mine] == [r.rate.median for r in point.rates() if r.rate]
    scaling = [row for picture in KINDS["scaling"][0](made) for row in picture.data]
    one, two = (row for row in scaling if row["stack"] == "xdp")
    assert one["efficiency"] == 1
    assert two["efficiency"] == pytest.approx(two["median_pps"] / (2 * one["median_pps"]))
    losses = [row for picture in KINDS["loss"][0](made) for row in picture.data]
    lost = {row["trial"]: row["lost"] for row in losses}
    assert {trial: sum(row["frames"] for row in losses if row["trial"] == trial) for trial in lost} == lost


def test_loss_over_load_is_stacked_by_place_and_adds_up() -> None:
    run = many(2)
    point = run.plan.points[0].id
    told = [t.model_copy(update={"losses": {"qdisc": t.sent // 4, "DUT ring": t.sent // 8}, "unexplained": t.sent // 8,
                                 "unread": {"driver": "no counter"}})
            if t.phase is Phase.LOAD and t.point == point else t for t in run.trials]
    made = Material.of(replace(run, trials=tuple(told)))
    (picture,) = KINDS["loss-load"][0](made)
    assert "No counter told of: driver." in picture.caption
    rows = [row for row in picture.data if row["label"] == made.points[0].plan.label]
    loads = {row["load_pps"] for row in rows}
    assert loads == {load.load_pps for load in made.points[0].loads}
    for load in loads:
        shares = {row["place"]: row["share_of_sent"] for row in rows if row["load_pps"] == load}
        assert shares == {"qdisc": pytest.approx(0.25, abs=1e-3), "DUT ring": pytest.approx(0.125, abs=1e-3),
                          "unexplained": pytest.approx(0.125, abs=1e-3), "driver": None}
    with drawing(WIDE):
        figure = drawn(picture, WIDE)
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len(bars) == 3 * len(loads)
    tops = sorted({round(bar.get_y() + bar.get_height(), 3) for bar in bars})
    assert tops == [0.125, 0.375, 0.5], "ring, qdisc, unexplained: each begins where the one before ends"
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"DUT ring", "qdisc", "unexplained"} <= set(names)
    colours = {handle.get_facecolor() for handle in figure.legends[0].get_patches()}
    assert len(colours) == len(names)


@pytest.mark.parametrize(("repeats", "says"), [
    (1, None), (2, "lowest and highest repeat, too few for an interval (below 3)."),
    (3, "95 % intervals of the mean (Student’s t on logarithms).")])
def test_thin_lines_are_95_percent_intervals_and_are_called_what_they_are(repeats: int, says: str | None) -> None:
    made = Material.of(many(2, (1, 2), repeat=repeats))
    for kind, lines in (("throughput", "Thin lines"), ("scaling", "Vertical lines")):
        (picture,) = KINDS[kind][0](made)
        assert (lines in picture.caption) is (says is not None)
        assert says is None or f"{lines}: {says}" in picture.caption
        with drawing(WIDE):
            drawn(picture, WIDE)
    row = next(row for row in picture.data if row["repeats"])
    summary = next(p for p in made.points if (p.plan.label, len(p.plan.cores)) == (row["label"], row["cores"])).ndr
    found = interval(list(summary.by_repeat.values()))
    assert (found is None) is (repeats < 3)
    assert span(summary) == (None if repeats == 1 else (found.low, found.high) if found else
                             (row["lowest_pps"], row["highest_pps"]))
    assert row["interval95_low_pps"] == (found.low if found else None)


def test_published_points_stay_apart() -> None:
    """Other role, frame or cores: not drawn; what is drawn is in no row of what was measured, and marked hollow."""
    wrong = (replace(PUBLISHED[0], role="drop", row={"id": "role"}),
             replace(PUBLISHED[0], frame_bytes=128, row={"id": "frame"}),
             replace(PUBLISHED[0], cores=7, row={"id": "cores"}))
    assert "published figures: none has this role, frame size and number of cores" in draw_all(
        Material.of(many(1), wrong)).notes
    (picture,) = KINDS["throughput"][0](Material.of(many(2), (*wrong, *PUBLISHED)))
    assert [row["id"] for row in picture.references] == ["p6", "p4", "p2", "p0"]  # on one core, the highest first
    assert not any("id" in row for row in picture.data)
    assert "not measured here" in picture.caption
    with drawing(WIDE):
        figure = drawn(picture, WIDE)
    marks = [line for line in figure.axes[1].lines if line.get_marker() == "D"]
    assert [line.get_markerfacecolor() for line in marks] == [WIDE.paint.surface] * 4


def test_a_chart_without_data_says_why() -> None:
    run = many(2)
    measure = replace(run.plan.measure, search=None, latency_fractions=(), load_rates_pps=())
    bare = replace(run, plan=replace(run.plan, measure=measure, role=Role.ECHO), trials=(), outcomes=())
    found = draw_all(Material.of(bare))
    assert found.pictures == {}
    assert set(found.missing) == set(KINDS)
    for kind, word in (("scaling", "cores: [1]"), ("latency", "measure.latency"), ("cpu", "measure.load_curve"),
                       ("search", "measure.throughput"), ("loss", "no trial was finished")):
        assert word in found.missing[kind]


def test_a_panel_without_a_stack_says_why(run: RunData, points: tuple[PointSummary, ...]) -> None:
    few = replace(points[0].latency[0], curve=(), at=dict.fromkeys(points[0].latency[0].at),
                  reason="the load leaves no room for a latency stream")
    shown = (replace(points[0], latency=(few, *points[0].latency[1:])), *points[1:])
    (picture,) = KINDS["latency"][0](Material(run, shown, looks(p.plan for p in points)))
    assert ("No latency at 10 % of PDR: linux-udp reuseport=false, 1 core (the load leaves no room for a latency "
            "stream).") in picture.caption
    assert picture.caption.count("dpdk, 2 cores") == 1  # in no panel: said once
    assert "No latency: dpdk, 2 cores (testpmd did not start" in picture.caption


def test_a_legend_reads_row_after_row() -> None:
    (picture,) = KINDS["cost"][0](Material.of(many(5)))
    with drawing(WIDE):
        figure = drawn(picture, WIDE)
        overlaps(figure)  # lays it out
        boxes = [text.get_window_extent() for text in figure.legends[0].get_texts()]
        shown = [text.get_text() for _, text in sorted(
            zip(boxes, figure.legends[0].get_texts(), strict=True), key=lambda e: (-round(e[0].y0), e[0].x0))]
    names = [label for _, label, _ in STACKS[:5]]
    assert [text.split(", polls")[0].split("  ")[0] for text in shown] == names


def test_the_percentile_curve_ends_at_the_largest_latency(points: tuple[PointSummary, ...]) -> None:
    entry = points[3].latency[0]
    largest = entry.at["max"]
    assert largest is not None
    assert curve(entry)[-1] == (1 - 1 / entry.samples, largest.high)
    assert largest.high > entry.curve[-1][0]


def test_the_curve_has_no_step_where_its_samples_end(points: tuple[PointSummary, ...]) -> None:
    entry = points[3].latency[0]
    total = sum(frames for _, frames in entry.curve)
    known = curve(entry)[:-1]
    assert known[-1][0] <= 1 - 10 / total
    assert len({share for share, _ in known}) == len(known)


def test_the_curve_passes_through_the_recorded_percentiles_and_never_falls(points: tuple[PointSummary, ...]) -> None:
    entry = points[3].latency[0]
    thinned = replace(entry, curve=tuple((ns * 0.8, frames) for ns, frames in entry.curve))
    for shown in (entry, thinned):
        drawn_at = dict(curve(shown))
        for share, name in ((0.5, "p50"), (0.9, "p90"), (0.99, "p99")):
            recorded = shown.at[name]
            assert recorded is not None
            assert drawn_at[share] == recorded.median
        heights = [ns for _, ns in curve(shown)]
        assert heights == sorted(heights)


def test_verdicts_are_marked_and_the_marks_explained() -> None:
    (picture,) = KINDS["throughput"][0](Material.of(many(4, repeat=2)))
    with drawing(WIDE):
        texts = [text.get_text() for text in drawn(picture, WIDE).axes[0].texts]
    assert any(text.endswith("PNI") for text in texts), texts
    assert "D" in texts, texts
    assert ("Marks: P paused (a core stood still), N noisy (repeats scatter), I inconclusive (passed only after "
            "several attempts), D degraded (ran in a slower mode).") in picture.caption
    assert len(set(LETTERS.values())) == len(LETTERS)
    assert {Verdict.LAB, Verdict.LAB_RSS, Verdict.SKIPPED, Verdict.FAILED} == set(Verdict) - set(LETTERS)


def test_every_panel_has_its_loads_where_the_last_row_is_not_full() -> None:
    for kind in ("cpu", "search"):
        (picture,) = KINDS[kind][0](Material.of(many(4)))
        with drawing(WIDE):
            figure = drawn(picture, WIDE)
            assert overlaps(figure) == []
            shown = [[label.get_visible() and bool(label.get_text()) for label in axes.get_xticklabels()]
                     for axes in figure.axes]
        assert len(shown) == 4
        assert all(any(labels) for labels in shown), kind


def test_a_colour_belongs_to_a_stack_on_every_page() -> None:
    plans = [point_plan(model) for model in MODELS]
    alone = {plan.stack: looks([plan]) for plan in plans}
    together = looks(reversed(plans))
    for plan in plans:
        (look,) = alone[plan.stack].values()
        same = {found.colour % palette.HUES for key, found in together.items() if f'"{plan.stack}"' in key}
        assert same == {look.colour % palette.HUES}
    every = looks(point_plan(replace(MODELS[0], stack=stack, label=label, params=params))
                  for stack, label, params in STACKS).values()
    assert len({(look.colour, look.marker, look.line) for look in every}) == len(STACKS)


#: Machado, Oliveira and Fernandes 2009, severity 1.0: what a colour looks like without one kind of cone, linear RGB.
_BLIND = {
    "normal": np.eye(3),
    "protan": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                        [-0.003882, -0.048116, 1.051998]]),
    "deutan": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                        [-0.011820, 0.042940, 0.968881]]),
    "tritan": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                        [0.004733, 0.691367, 0.303900]]),
}
#: Linear RGB to cone responses, and their cube roots to Oklab (Ottosson 2020).
_CONES = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                   [0.0883024619, 0.2817188376, 0.6299787005]])
_OKLAB = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                   [0.0259040371, 0.7827717662, -0.8086757660]])


@pytest.mark.parametrize("theme", palette.THEMES)
def test_hues_stay_apart_for_everybody(theme: str) -> None:
    """At least 0.1 in Oklab between any two hues, for every kind of colour vision; contrast for all shades."""
    paint = palette.theme(theme)
    rgb = np.array([[int(c[i:i + 2], 16) / 255 for i in (1, 3, 5)] for c in paint.series_colours[:palette.HUES]])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    for matrix in _BLIND.values():
        lab = np.cbrt(np.clip(linear @ matrix.T, 0, 1) @ _CONES.T) @ _OKLAB.T
        distance = np.linalg.norm(lab[:, None] - lab[None], axis=2)
        assert distance[~np.eye(palette.HUES, dtype=bool)].min() >= 0.1
    assert min(palette.contrast(colour, paint.surface) for colour in paint.series_colours) >= 3
    assert min(palette.contrast(colour, paint.surface) for colour in (paint.text, paint.muted)) >= 4.5


@pytest.mark.parametrize("theme", palette.THEMES)
def test_the_first_variant_of_a_stack_differs_from_it(theme: str) -> None:
    colours = palette.theme(theme).series_colours
    assert min(palette.contrast(colours[hue], colours[hue + palette.HUES]) for hue in range(palette.HUES)) >= 1.3


def test_bars_of_a_variant_are_outlined() -> None:
    made = Material.of(many(12))
    (picture,) = KINDS["throughput"][0](made)
    variants = sum(made.look(point).colour > palette.HUES for point in made.points)
    with drawing(WIDE):
        outlined = [bar for bar in drawn(picture, WIDE).axes[0].patches if not bar.get_fill()]
    assert variants > 0
    assert len(outlined) == 3 * variants
    assert "Outlined:" in picture.caption


@pytest.mark.parametrize("share", [0.97, 1.01, 1.1])
def test_no_figure_stands_across_the_line_of_a_limit(share: float) -> None:
    rates = [r.rate.median for p in Material.of(many(4)).points for r in p.rates() if r.rate]
    run = many(4, ceiling=share * max(rates))
    (picture,) = KINDS["throughput"][0](Material.of(run))
    with drawing(WIDE):
        figure = drawn(picture, WIDE)
        assert overlaps(figure) == []
        axes = figure.axes[0]
        lines = [axes.transData.transform((line.get_xdata()[0], 0))[0] for line in axes.lines
                 if line.get_linestyle() == "--"]
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text()[:1].isdigit()
                 or text.get_text().startswith("≥")]
        end = figure.bbox.x1
    assert lines
    assert len(boxes) > 4
    assert not [box for box in boxes for x in lines if box.x0 < x < box.x1]
    assert max(box.x1 for box in boxes) <= end


def test_text_is_cut_and_wrapped_by_its_width() -> None:
    assert fitted("short", 100, 12) == "short"
    cut = fitted("a name that is far too long for its place", 100, 12)
    assert cut.endswith("…")
    assert 80 < text_width(cut, 12) <= 100
    lines = wrapped("one two three four five six seven", 60, 12, 2)
    assert len(lines) == 2
    assert all(text_width(line, 12) <= 60 for line in lines)
    assert lines[1].endswith("…")


def test_csv_is_safe_to_open() -> None:
    text = table([{"a": "=HYPERLINK(1)", "b": None, "c": 0.0}, {"a": 'say "x", y', "d": True}])
    assert text == "a,b,c,d\r\n'=HYPERLINK(1),,0.0,\r\n\"say \"\"x\"\", y\",,,true\r\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one point."""
    return make_run(tmp_path_factory.mktemp("small"), repeat=1, models=MODELS[3:4])


def test_files_of_a_run(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "charts"
    done = CliRunner().invoke(charts_command, [str(small), "--out", str(out), "--theme", "dark", "--size", "slide",
                                               "--json"], standalone_mode=False)
    assert done.exception is None
    (entry,) = json.loads(done.output)["runs"]
    assert set(entry["not_drawn"]) == {"loss-load", "scaling", "shares"}
    assert {chart["name"].split("-")[0] for chart in entry["charts"]} == set(KINDS) - {"loss-load", "scaling", "shares"}
    files = [Path(name) for chart in entry["charts"] for name in (*chart["files"], *chart["data"])]
    assert sorted(files) == sorted(out.iterdir())
    svg = (out / "throughput-64B-1c.slide.dark.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root[0].tag.endswith("title")
    assert "NDR" in (root[1].text or "")
    assert "<text" not in svg  # letters are outlined
    assert palette.theme("dark").surface in svg
    assert "#0a0b" not in svg
    with Image.open(out / "cost-64B-1c.slide.dark.png") as picture:
        assert picture.size == (2560, 1440)
    rows = list(csv.DictReader((out / "throughput-64B-1c.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["rate"] for row in rows] == ["NDR", "PDR", "MRR"]
    assert float(rows[0]["median_pps"]) > 0


def test_what_cannot_be_done_is_said(small: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    wrong = runner.invoke(charts_command, [str(small), "--out", str(tmp_path), "--theme", "sepia"])
    assert wrong.exit_code == 2
    assert "light, dark" in wrong.output
    (tmp_path / "file").write_text("")
    failed = runner.invoke(charts_command, [str(small), "--out", str(tmp_path / "file"), "--format", "svg"])
    assert "name another directory" in str(failed.exception)


def test_several_runs_get_a_directory_each(small: Path, tmp_path: Path, few_charts: None) -> None:
    twin = make_run(tmp_path / "elsewhere", run_id=small.name, repeat=1, models=MODELS[3:4])
    out = tmp_path / "charts"
    runs = [str(small), str(twin), str(small)]
    done = CliRunner().invoke(charts_command, [*runs, "--out", str(out), "--format", "svg"], standalone_mode=False)
    assert done.exception is None
    assert sorted(path.name for path in out.iterdir()) == [small.name, f"{small.name}-2"]
    assert "not drawn: scaling: no stack was measured on two numbers of cores" in done.output
