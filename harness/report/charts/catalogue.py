# SPDX-License-Identifier: Apache-2.0
"""Every kind of chart, in the order in which a report shows them, and why one is not drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.plan import Role
from harness.report.charts import sharing
from harness.report.charts.canvas import Picture
from harness.report.charts.cost import cost_pictures
from harness.report.charts.cpu import cpu_pictures
from harness.report.charts.latency import latency_pictures
from harness.report.charts.loss import loss_pictures
from harness.report.charts.lossload import loss_load_pictures, no_loss_over_load
from harness.report.charts.material import Material
from harness.report.charts.scaling import NO_COUNTS, scaling_pictures
from harness.report.charts.search import search_pictures
from harness.report.charts.throughput import throughput_pictures
from harness.report.identity import one_line

#: Charts of one kind that a run gets; a scenario of more frame sizes or core counts has the rest in its data.
MOST = 24


@dataclass(frozen=True)
class Drawn:
    """The charts of a run by kind; ``missing``: kind → why there is none; ``notes``: what else is not shown."""

    pictures: Mapping[str, tuple[Picture, ...]]
    missing: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def all(self) -> list[Picture]:
        """In the order of the kinds."""
        return [picture for pictures in self.pictures.values() for picture in pictures]


def _no_rate(material: Material) -> str:
    return next((one_line(r.reason, 200) for p in material.points for r in p.rates() if r.reason and not r.rate),
                "no rate was found")


def _no_scaling(material: Material) -> str:
    counts = {len(point.plan.cores) for point in material.points}
    if len(counts) == 1:
        return f"{NO_COUNTS}: the scenario has cores: [{counts.pop()}]; name several, such as [1, 2, 4]"
    return f"{NO_COUNTS} with a rate found on both"


def _no_latency(material: Material) -> str:
    if material.run.plan.role is Role.DROP:
        return "latency is not defined for frames that are discarded"
    if not material.run.plan.measure.latency_fractions:
        return "the scenario asks for no latency (measure.latency)"
    return next((one_line(e.reason, 200) for p in material.points for e in p.latency if e.reason),
                "no latency trial was finished")


def _no_curve(material: Material) -> str:
    if not material.run.plan.measure.load_rates_pps:
        return "the scenario has no load curve (measure.load_curve)"
    return next((one_line(load.note, 200) for p in material.points for load in p.loads if load.note),
                "no CPU sample lies inside a trial of the load curve")


def _no_loss(material: Material) -> str:
    if not any(point.trials for point in material.points):
        return "no trial was finished"
    return f"no {material.run.plan.role.counted} were lost in any trial at the highest load"


def _no_shares(material: Material) -> str:
    return "no driver and no stack counted by receive queue or worker, or there was only one of them"


def _no_search(material: Material) -> str:
    if material.run.plan.measure.search is None:
        return "the scenario searches for no rate (measure.throughput)"
    return "no repeat of a point was finished"


Builder = Callable[[Material], Iterable[Picture]]
#: Kind → how its charts are made, and why there is none.
KINDS: dict[str, tuple[Builder, Callable[[Material], str]]] = {
    "throughput": (throughput_pictures, _no_rate),
    "scaling": (scaling_pictures, _no_scaling),
    "latency": (latency_pictures, _no_latency),
    "cpu": (cpu_pictures, _no_curve),
    "cost": (cost_pictures, _no_curve),
    "loss": (loss_pictures, _no_loss),
    "loss-load": (loss_load_pictures, lambda material: no_loss_over_load(material.points)),
    "shares": (sharing.sharing_pictures, _no_shares),
    "search": (search_pictures, _no_search),
}


def draw_all(material: Material) -> Drawn:
    """Every chart that the run has the numbers for."""
    pictures: dict[str, tuple[Picture, ...]] = {}
    missing: dict[str, str] = {}
    notes = [sharing.NO_FLOWS]
    for kind, (build, why) in KINDS.items():
        found = list(build(material))
        if not found:
            missing[kind] = why(material)
        else:
            pictures[kind] = tuple(found[:MOST])
        if len(found) > MOST:
            notes.append(f"{kind}: the first {MOST} of {len(found)} charts")
    if material.published and not any(picture.references for found in pictures.values() for picture in found):
        notes.append("published figures: none has this role, frame size and number of cores")
    return Drawn(pictures, missing, tuple(notes))
