# SPDX-License-Identifier: Apache-2.0
"""The table ``metrics`` as OpenMetrics text: gauges, a sample a repeat, with the time at which its run began (which
``promtool tsdb create-blocks-from openmetrics`` takes). Base units: seconds, not nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from harness.analysis.metrics import Kind, Metric

if TYPE_CHECKING:
    import duckdb

_SQL = ("SELECT m.metric, m.value, m.repeat, m.at_least, m.unit, r.started_at, m.run, r.scenario, r.testbed, m.point, "
        "p.stack, p.params, p.role, p.frames, p.cores, p.host FROM metrics m JOIN runs r USING (run) JOIN points p "
        "USING (run, point) WHERE isfinite(m.value) ORDER BY ALL")
_LABELS = ("run", "scenario", "testbed", "point", "stack", "params", "role", "frames", "cores", "host")
#: Family, unit (the end of the family's name) and help, by kind.
_FAMILIES = {
    "rate": ("netstack_rate_pps", "pps", "Rate found, frames per second and direction; goal ndr, pdr or mrr."),
    "connections": ("netstack_rate_connections_per_second", "connections_per_second",
                    "Rate found, TCP connections per second; goal ndr, pdr or mrr."),
    Kind.LATENCY: ("netstack_latency_seconds", "seconds", "Latency at a fraction of the rate it is measured at."),
    Kind.CORES: ("netstack_busy_cores", "cores", "Cores of the device under test busy at an offered load."),
    Kind.CYCLES: ("netstack_packet_cycles", "cycles", "Cycles per packet at an offered load."),
    Kind.LOSS: ("netstack_loss_ratio", "ratio", "Share of the frames sent that were lost at an offered load."),
}


def openmetrics(index: duckdb.DuckDBPyConnection) -> str:
    """Everything the index holds, as text that ends with ``# EOF``."""
    families: dict[Any, list[str]] = {}
    for row in index.execute(_SQL).fetchall():
        metric = Metric.parse(row[0])
        rate = metric.kind in (Kind.NDR, Kind.PDR, Kind.MRR)
        key = ("rate" if row[4] == "pps" else "connections") if rate else metric.kind
        families.setdefault(key, []).append(_sample(_FAMILIES[key][0], metric, row))
    return "".join(_family(key, families[key]) for key in _FAMILIES if key in families) + "# EOF\n"


def _family(key: Any, samples: Sequence[str]) -> str:
    name, unit, text = _FAMILIES[key]
    return f"# TYPE {name} gauge\n# UNIT {name} {unit}\n# HELP {name} {text}\n" + "".join(samples)


def _sample(family: str, metric: Metric, row: Sequence[Any]) -> str:
    labels = dict(zip(_LABELS, row[6:], strict=True)) | {"repeat": row[2]} | dict(_of(metric))
    if row[3]:
        labels["at_least"] = "true"
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items() if value is not None)
    value = row[1] / 1e9 if metric.kind is Kind.LATENCY else row[1]
    return f"{family}{{{text}}} {float(value)!r}{_time(row[5])}\n"


def _of(metric: Metric) -> Iterator[tuple[str, str]]:
    if metric.kind in (Kind.NDR, Kind.PDR, Kind.MRR):
        yield "goal", str(metric.kind)
    elif metric.kind is Kind.LATENCY:
        yield from (("percentile", metric.percentile), ("fraction", f"{metric.at:.10g}"))
    else:
        yield "load_pps", f"{metric.at:.10g}"


def _escaped(value: object) -> str:
    return str(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _time(text: str) -> str:
    """Seconds since 1970 with a space before, nothing where the run does not say when it began."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return f" {(moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp():.3f}"
