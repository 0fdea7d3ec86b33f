# SPDX-License-Identifier: Apache-2.0
"""How often intervals hold the truth and gates are wrong, at full size: ``make bench-statistics``.

Simulated repeats, no network. The unit tests run the same with fewer samples.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

from harness.analysis import decision
from harness.analysis.statistics import RESAMPLES, Array, Moments, bca_of_difference, bca_of_mean

BATCH = 500
Draw = Callable[[tuple[int, ...]], Array]


def distributions(rng: np.random.Generator) -> dict[str, Draw]:
    """Logarithms of repeats, mean 0: normal, bounded, skewed (a maximum of many), heavy-tailed."""
    return {"normal": lambda shape: rng.normal(size=shape), "uniform": lambda shape: rng.uniform(-1, 1, shape),
            "Gumbel": lambda shape: rng.gumbel(size=shape) - np.euler_gamma,
            "Student's t(5)": lambda shape: rng.standard_t(5, shape)}


def student(draw: Draw, repeats: int, samples: int) -> float:
    """Coverage of Student's interval of one sample."""
    moments = Moments.of(draw((samples, repeats)))
    return float((np.abs(moments.mean) <= moments.half_width()).mean())


def bca(draw: Draw, repeats: int, samples: int, *, two: bool) -> float:
    """Coverage of the BCa interval of one sample, or of the difference of two."""
    inside = 0
    for batch in range(samples // BATCH):
        one = draw((BATCH, repeats))
        low, high = (bca_of_difference(one, draw((BATCH, repeats)), RESAMPLES, batch) if two else
                     bca_of_mean(one, RESAMPLES, batch))
        inside += int(((low <= 0) & (high >= 0)).sum())
    return inside / (samples // BATCH * BATCH)


def gate(rng: np.random.Generator, runs: int, *, figures: int, repeats: int, noise: float, loss: float,
         unequal: float) -> tuple[float, float]:
    """Share of runs that fail, and in which the first figure (the one with the loss) cannot be told; threshold -3 %."""
    scale = noise * np.exp(unequal * rng.normal(size=(runs, figures, 1)))
    effect = np.where(np.arange(figures) == 0, -math.log1p(-loss), 0.0)[:, None]
    worse = Moments.of(rng.normal(size=(runs, figures, repeats)) * scale + effect).minus(
        Moments.of(rng.normal(size=(runs, figures, repeats)) * scale))
    found = decision.decide(decision.Figures(worse, np.full(figures, 2 / repeats), np.full(figures, -math.log1p(-0.03)),
                                             np.zeros(figures, dtype=np.int64)))
    failed = (found.state == decision.FAIL).any(axis=-1)
    return float(failed.mean()), float((found.state[:, 0] == decision.CANNOT_TELL).mean())


def most_powerful(rng: np.random.Generator, runs: int, *, figures: int, repeats: int, noise: float,
                  loss: float) -> float:
    """Share of runs with a loss in one figure, whichever, that the best test there can be finds when it fails 1 % of
    unchanged runs: the likelihood ratio, with noise and loss known."""
    shift = -math.log1p(-loss) / (noise * math.sqrt(2 / repeats))
    hit = np.where(np.arange(figures) == 0, shift, 0.0)
    same, less = (np.exp(shift * (rng.normal(size=(runs, figures)) + effect)).sum(axis=-1) for effect in (0.0, hit))
    return float((less > np.quantile(same, 0.99)).mean())


def main() -> None:
    """Print both tables; ``--json`` keeps them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    coverage, gates = [], []
    print("coverage of 95 % intervals: logarithms, repeats, method")
    for name, draw in distributions(rng).items():
        for repeats in (3, 5, 10, 19):
            coverage.append((name, repeats, "t", student(draw, repeats, 10 * options.samples)))
            print("{:15s} {:3d}  {:10s} {:.4f}".format(*coverage[-1]))
        for repeats, two in ((20, False), (20, True), (40, False)):
            coverage.append((name, repeats, "BCa, two" if two else "BCa", bca(draw, repeats, options.samples, two=two)))
            print("{:15s} {:3d}  {:10s} {:.4f}".format(*coverage[-1]))
    print("gate, threshold -3 %: figures, repeats, noise, unequal, loss: fail, cannot tell")
    for figures in (1, 2, 4, 8, 16):
        for repeats, noise in ((5, 0.015), (15, 0.03), (5, 0.03), (5, 0.1)):
            for loss, unequal in ((0.0, 0.0), (0.0, 0.7), (0.05, 0.0)):
                shares = gate(rng, 2 * options.samples, figures=figures, repeats=repeats, noise=noise, loss=loss,
                              unequal=unequal)
                gates.append((figures, repeats, noise, unequal, loss, *shares))
                print("{:3d} {:3d} {:6.1%} {:4.1f} {:5.0%}  {:7.2%} {:7.2%}".format(*gates[-1]))
    print("what no test can exceed: 5 % loss in one figure, 3 % noise, 15 repeats, 1 % false alarms")
    bounds = [(figures, most_powerful(rng, 10 * options.samples, figures=figures, repeats=15, noise=0.03, loss=0.05))
              for figures in (1, 4, 8, 16)]
    for figures, share in bounds:
        print(f"{figures:3d}  {share:7.2%}")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"samples": options.samples, "coverage": coverage, "gate": gates,
                                            "bounds": bounds}, indent=1))


if __name__ == "__main__":
    main()
