# SPDX-License-Identifier: Apache-2.0
"""What charts are drawn from: a run, its points summarised, their looks, published points; and how points are divided
into charts that can be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.plan import Role
from harness.records import Verdict
from harness.report.charts.canvas import fitted, text_width
from harness.report.identity import Look, looks, one_line, slug, stack_key
from harness.report.numbers import plural
from harness.report.summarise import PointSummary, summarise
from harness.report.words import traffic_text
from harness.rundata import RunData

#: Points of one chart; more are divided by their number of cores, and then into charts of so many.
MOST_POINTS = 12
#: Marks of verdicts in charts.
LETTERS = {
    Verdict.GENERATOR_LIMITED: "G", Verdict.PAUSED: "P", Verdict.UNEXPLAINED_LOSS: "U", Verdict.NOISY: "N",
    Verdict.INCONCLUSIVE: "I", Verdict.CONTRADICTED: "R", Verdict.CUT_SHORT: "C", Verdict.EXTRA_CORE: "X",
    Verdict.OTHER_LOAD: "O", Verdict.DEGRADED: "D",
}
#: What a verdict says, in a caption.
_MEANINGS = {
    Verdict.GENERATOR_LIMITED: "the generator sent less than asked", Verdict.PAUSED: "a core stood still",
    Verdict.UNEXPLAINED_LOSS: "no counter accounts for the loss", Verdict.NOISY: "repeats scatter",
    Verdict.INCONCLUSIVE: "passed only after several attempts", Verdict.CUT_SHORT: "the search ran out of time",
    Verdict.EXTRA_CORE: "used cores it was not given", Verdict.OTHER_LOAD: "other programs ran on its cores",
    Verdict.DEGRADED: "ran in a slower mode",
}
#: Those that concern a whole point, and stand beside its name.
OF_POINT = (Verdict.EXTRA_CORE, Verdict.OTHER_LOAD, Verdict.DEGRADED)


@dataclass(frozen=True)
class Published:
    """A published figure to draw beside measured ones, from :mod:`harness.analysis.references`. ``series``: what the
    same set-up on other numbers of cores shares. ``row``: its columns in the data."""

    stack: str
    detail: str
    series: str
    role: str
    frame_bytes: int | None
    cores: int | None
    pps: float
    machine: str
    source: str
    row: Mapping[str, object]


@dataclass(frozen=True)
class Material:
    """A run as charts see it. ``looks`` are those of the whole page, where it is about several runs."""

    run: RunData
    points: tuple[PointSummary, ...]
    looks: dict[str, Look]
    published: tuple[Published, ...] = ()

    @staticmethod
    def of(run: RunData, published: Sequence[Published] = ()) -> Material:
        """Of one run alone."""
        points = summarise(run)
        return Material(run, points, looks(point.plan for point in points), tuple(published))

    def look(self, point: PointSummary) -> Look:
        """How a point is drawn."""
        return self.looks[stack_key(point.plan)]


@dataclass(frozen=True)
class Group:
    """Points of one chart: same frame size, at most MOST_POINTS. ``cores``: where all have the same number."""

    points: tuple[PointSummary, ...]
    part: str
    suffix: str
    cores: int | None

    @property
    def role(self) -> Role:
        """Of all its points."""
        return self.points[0].plan.role

    @property
    def traffic(self) -> str:
        """What is sent and, where all points have the same, on how many cores, for titles."""
        plan = self.points[0].plan
        cores = f", {plural(self.cores, 'core')}" if self.cores is not None else ""
        return f"{traffic_text(plan.role, plan.traffic_label)}{cores}{self.suffix}"

    @property
    def direction(self) -> str:
        """", per direction" where there are frames."""
        return ", per direction" if self.points[0].plan.frame_bytes else ""

    def name(self, material: Material, point: PointSummary, limit: int = 60) -> str:
        """The point within this chart: its stack and, where they differ, its cores."""
        cores = self._cores(point)
        return one_line(material.look(point).name, max(6, limit - len(cores))) + cores

    def heading(self, material: Material, point: PointSummary, width: float, size: float, marks: str = "") -> str:
        """:meth:`name` in bold of ``size``, with marks behind it, cut to so many pixels."""
        behind = self._cores(point) + (f"  {marks}" if marks else "")
        return fitted(material.look(point).name, width - text_width(behind, size, True), size, True) + behind

    def _cores(self, point: PointSummary) -> str:
        return "" if self.cores is not None else f", {plural(len(point.plan.cores), 'core')}"


def by_frames(points: Iterable[PointSummary]) -> list[list[PointSummary]]:
    """Points by frame sizes, in the order of the plan."""
    found: dict[object, list[PointSummary]] = {}
    for point in points:
        found.setdefault(point.plan.frames, []).append(point)
    return list(found.values())


def groups(points: Iterable[PointSummary]) -> Iterator[Group]:
    """Points that share a chart."""
    for same in by_frames(points):
        counts = sorted({len(point.plan.cores) for point in same})
        if len(same) > MOST_POINTS and len(counts) > 1:
            for count in counts:
                yield from _pages([p for p in same if len(p.plan.cores) == count])
        else:
            yield from _pages(same)


def _pages(points: Sequence[PointSummary]) -> Iterator[Group]:
    counts = {len(point.plan.cores) for point in points}
    cores = counts.pop() if len(counts) == 1 else None
    pages = [points[at:at + MOST_POINTS] for at in range(0, len(points), MOST_POINTS)]
    for number, page in enumerate(pages, 1):
        several = len(pages) > 1
        part = "-".join(filter(None, [frames_part(page[0]), f"{cores}c" if cores is not None else "",
                                      f"part{number}" if several else ""]))
        yield Group(tuple(page), part, f" ({number} of {len(pages)})" if several else "", cores)


def frames_part(point: PointSummary) -> str:
    """The frame size in names: "64B", "imix", "tcp"."""
    return slug(point.plan.frames.slug) if point.plan.frame_bytes else "tcp"


def identified(material: Material, point: PointSummary) -> dict[str, object]:
    """The columns that every row of data begins with."""
    plan = point.plan
    return {"run": material.run.info.run_id, "stack": plan.stack, "label": one_line(plan.label, 120),
            "role": plan.role.value, "frame": plan.traffic_label if plan.frame_bytes else "", "cores": len(plan.cores),
            "host": plan.host}


def letters(verdicts: Iterable[Verdict]) -> str:
    """Marks of verdicts, "GP"; of those without a mark (``lab``: said of the whole run) none."""
    given = set(verdicts)
    return "".join(letter for verdict, letter in LETTERS.items() if verdict in given)


def letter_key(used: Iterable[str]) -> str:
    """What the marks mean, for a caption: "Marks: P paused (a core stood still)."; empty without any."""
    seen = set("".join(used))
    said = ", ".join(f"{letter} {verdict.value}" + (f" ({_MEANINGS[verdict]})" if verdict in _MEANINGS else "")
                     for verdict, letter in LETTERS.items() if letter in seen)
    return f" Marks: {said}." if said else ""


def limited(verdicts: Iterable[Verdict]) -> bool:
    """Whether a verdict limits what the number is worth."""
    return bool(letters(verdicts))
