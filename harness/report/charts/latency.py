# SPDX-License-Identifier: Apache-2.0
"""Latency percentiles: one panel a load, one line a stack, on a percentile axis that is logarithmic in 1 − p."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from harness.plan import Role
from harness.report.charts.canvas import Canvas, Grid, Picture, grid_lines, label_axes, legend, legend_height
from harness.report.charts.material import Group, Material, groups, identified, letter_key, letters
from harness.report.charts.scaling import log_ticks
from harness.report.identity import Look, one_line
from harness.report.numbers import MISSING, fraction_name, nanoseconds
from harness.report.summarise import PERCENTILES, LatencySummary, PointSummary
from harness.report.words import latency_title

MAX_PANELS = 6
_TICKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
_SMALLEST_NS = 1.0


@dataclass(frozen=True)
class _Panel:
    """One load: ``fraction`` of each stack's own rate ``of``."""

    fraction: float
    of: str
    lines: tuple[tuple[PointSummary, LatencySummary], ...]

    @property
    def title(self) -> str:
        """"at 50 % of PDR"."""
        return f"at {fraction_name(self.fraction)} of {self.of.upper()[:8]}"


@dataclass(frozen=True)
class _Latency:
    material: Material
    group: Group
    panels: tuple[_Panel, ...]

    def labels(self) -> dict[str, PointSummary]:
        """Of the lines, with the marks of their trials."""
        drawn = {point.plan.id for panel in self.panels for point, _ in panel.lines}
        return {self.label(point): point for point in self.group.points if point.plan.id in drawn}

    def label(self, point: PointSummary) -> str:
        """A point's, with the marks of its latency trials."""
        wanted = {number for entry in point.latency for number in entry.trials}
        marks = letters(verdict for trial in point.trials if trial.number in wanted for verdict in trial.verdicts)
        return self.group.name(self.material, point, 38) + (f"  {marks}" if marks else "")


def latency_pictures(material: Material) -> Iterator[Picture]:
    """One a frame size (and number of cores, where there are many points); none where no latency was measured."""
    for group in groups(material.points):
        loads: dict[tuple[float, str], list[tuple[PointSummary, LatencySummary]]] = {}
        for point in group.points:
            for entry in point.latency:
                if curve(entry):
                    loads.setdefault((entry.fraction, entry.of), []).append((point, entry))
        panels = [_Panel(*key, tuple(loads[key])) for key in sorted(loads)][:MAX_PANELS]
        if panels:
            yield _picture(_Latency(material, group, tuple(panels)))


def _picture(latency: _Latency) -> Picture:
    group = latency.group
    title = f"{latency_title(group.role)} by percentile in µs, {group.traffic}"
    caption = (f"One panel a load, as a share of each stack’s own {latency.panels[0].of.upper()[:8]}; all repeats "
               "together. Each step to the right is ten times rarer. Where fewer than ten slower "
               f"{group.role.counted} stand behind a percentile, the line goes straight to the highest latency seen. "
               "Lower is better.")
    missing = " ".join(_missing(latency))
    used = [label.rpartition("  ")[2] for label in latency.labels() if "  " in label]
    return Picture("latency", group.part, title, f"{caption} {missing}".rstrip() + letter_key(used),
                   _describe(latency, title), tuple(_data(latency)),
                   lambda canvas: _grid(latency, canvas).height(canvas),
                   lambda figure, canvas, height: _draw(latency, figure, canvas, height))


def _missing(latency: _Latency) -> Iterator[str]:
    """Who is in no panel or not in all, and why; what is so in every panel once."""
    absent = {panel.title: [f"{latency.group.name(latency.material, point)} ({_why(point, panel)})"
                            for point in latency.group.points
                            if point.plan.id not in {drawn.plan.id for drawn, _ in panel.lines}]
              for panel in latency.panels}
    always = [said for said in next(iter(absent.values()), []) if all(said in found for found in absent.values())]
    if always:
        yield f"No latency: {'; '.join(always)}."
    for title, found in absent.items():
        if here := [said for said in found if said not in always]:
            yield f"No latency {title}: {'; '.join(here)}."


def _why(point: PointSummary, panel: _Panel) -> str:
    entry = next((e for e in point.latency if (e.fraction, e.of) == (panel.fraction, panel.of)), None)
    found = point.pdr if panel.of == "pdr" else point.ndr
    reason = entry.reason if entry is not None else point.reason or found.reason
    nothing = "no connection was completed" if point.plan.role is Role.ACCEPT else "no latency frame came back"
    return one_line(reason, 120) or (nothing if entry is not None else "not measured")


def curve(entry: LatencySummary) -> list[tuple[float, float]]:
    """(percentile 0..1, ns): :func:`_known`, and at its end the largest latency of all, which merged buckets, each put
    at its lowest edge, end below."""
    found = _through(_known(entry), _stored(entry))
    largest = entry.at["max"]
    total = sum(frames for _, frames in entry.curve) or entry.samples
    if found and largest is not None and total > 0:
        found.append((max(found[-1][0], 1 - 1 / total), max(found[-1][1], largest.high)))
    return found


def _stored(entry: LatencySummary) -> list[tuple[float, float]]:
    """The recorded percentiles, which the markers show."""
    return [(p, max(spread.median, _SMALLEST_NS)) for p, _, name in PERCENTILES
            if (spread := entry.at[name]) is not None]


def _through(found: Sequence[tuple[float, float]], stored: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The histogram's curve led through the recorded percentiles: a record keeps a thinned histogram, so that between
    two of them it may say less, or more, than they do."""
    made = dict(stored)
    for share, ns in found:
        if share not in made:
            least = max((value for p, value in stored if p < share), default=ns)
            most = min((value for p, value in stored if p > share), default=ns)
            made[share] = max(least, min(ns, most)) if least <= most else least
    return sorted(made.items())


def _known(entry: LatencySummary) -> list[tuple[float, float]]:
    """From the histogram, up to the percentile that ten slower samples stand behind; from the stored percentiles where
    no histogram was kept."""
    if not entry.curve:
        return _stored(entry)
    total = sum(frames for _, frames in entry.curve)
    highest = 1 - 10 / total if total > 10 else 0.0
    found: list[tuple[float, float]] = []
    below = 0
    for ns, frames in entry.curve:
        if not found:
            found.append((0.0, max(ns, _SMALLEST_NS)))
        below += frames
        if below / total > highest:
            break  # drawn up to the limit, a bucket that reaches beyond it would be a vertical step there
        found.append((below / total, max(ns, _SMALLEST_NS)))
    return found


def _data(latency: _Latency) -> Iterator[dict[str, object]]:
    for panel in latency.panels:
        for point, entry in panel.lines:
            base = identified(latency.material, point) | {
                "fraction": panel.fraction, "of": panel.of, "load_pps": entry.load.median if entry.load else None,
                "samples": entry.samples}
            for percentile, ns in curve(entry):
                yield base | {"percentile": round(percentile * 100, 7), "latency_ns": ns}


def _describe(latency: _Latency, title: str) -> str:
    parts = [f"{title}."]
    for panel in latency.panels:
        values = "; ".join(f"{latency.group.name(latency.material, point)}: "
                           + ", ".join(f"{name} {nanoseconds(s.median) if (s := entry.at[name]) else MISSING}"
                                       for name in ("p50", "p99")) for point, entry in panel.lines)
        parts.append(f"{panel.title.capitalize()}: {values}.")
    return " ".join(parts)


def _position(percentile: float) -> float:
    return -math.log10(max(1 - percentile, 1e-9))


def _grid(latency: _Latency, canvas: Canvas) -> Grid:
    top = legend_height(canvas, list(latency.labels())) + 26
    return Grid(len(latency.panels), 200 if canvas.narrow else 250, top=top, gap=(30, 36))


def _draw(latency: _Latency, figure: FigureBase, canvas: Canvas, height: float) -> None:
    grid = _grid(latency, canvas)
    panels = grid.axes(figure, canvas, height)
    handles: dict[str, Any] = {}
    for axis, panel in zip(panels, latency.panels, strict=True):
        axis.set_title(panel.title)
        for point, entry in panel.lines:
            handles[latency.label(point)] = _line(axis, canvas, latency.material.look(point), point, entry)
    _scales(panels, latency.panels, grid.panel_width(canvas) / canvas.scale)
    label_axes(figure, canvas, height, "percentile", "latency, µs")
    legend(figure, canvas, {label: handles[label] for label in latency.labels()})


def _line(axis: Axes, canvas: Canvas, look: Look, point: PointSummary, entry: LatencySummary) -> Any:
    values, colour = curve(entry), canvas.paint.series(look.colour)
    cores = len(point.plan.cores)
    style = look.line if cores == 1 else (0, (min(cores, 10) + 2, 2))
    axis.plot([_position(p) for p, _ in values], [ns / 1000 for _, ns in values], color=colour, linestyle=style)
    marks = _stored(entry)
    axis.plot([_position(p) for p, _ in marks], [ns / 1000 for _, ns in marks], color=colour, linestyle="none",
              marker=look.marker)
    handle, = axis.plot([], [], color=colour, linestyle=style, marker=look.marker)
    return handle


def _scales(axes: Sequence[Axes], panels: Sequence[_Panel], width: float) -> None:
    last = max(values[-1][0] for panel in panels for _, entry in panel.lines if (values := curve(entry)))
    ticks = [p for p in _TICKS if p <= last or p <= 0.99]
    end = max(_position(last), _position(ticks[-1])) * 1.03
    if width / end < 34:  # "99.999" beside "99.99"
        ticks = [p for p in ticks if p not in (0.5, 0.9999)]
    for axis in axes:
        axis.set_yscale("log")
        axis.set_xticks([_position(p) for p in ticks], ["0" if p == 0 else f"{p * 100:.7g}" for p in ticks])
        axis.set_xlim(-0.05, end)
        log_ticks(axis, 1)
        grid_lines(axis, "y")
