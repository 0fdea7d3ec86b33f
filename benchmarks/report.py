# SPDX-License-Identifier: Apache-2.0
"""How long a report of a run of 10,000 trials takes to render, how large it is, and when Chromium can work with it.

The run is simulated (nothing in it was measured); the page is the one users get. ``make bench-report``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.unit.report.synthetic import make_run

CHROMIUM = "/usr/bin/chromium"
TRIALS = 10_000
#: From the issue: rendered in under 5 s, under 5 MB, interactive in under 1 s.
WANTED = {"render_s": 5.0, "size_bytes": 5_000_000, "interactive_ms": 1000.0}


def render(run: Path, page: Path) -> float:
    """Seconds that the command takes, a new process with its imports included."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "harness", "report", str(run), "-o", str(page)], check=True,
                   stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def browse(page: Path, times: int) -> dict[str, float]:
    """Medians, ms: until the page's script is done (tables sorted, filters ready), and of a sort and a filter."""
    ready, sorting, filtering = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for _ in range(times):
            tab = browser.new_page()
            tab.goto(page.as_uri())
            ready.append(tab.evaluate("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"))
            sorting.append(tab.evaluate(_TIMED, "section.trials thead th:nth-child(7) button"))
            filtering.append(tab.evaluate(_FILTERED))
            tab.close()
        browser.close()
    return {"interactive_ms": statistics.median(ready), "sort_ms": statistics.median(sorting),
            "filter_ms": statistics.median(filtering)}


_TIMED = """selector => { const began = performance.now(); document.querySelector(selector).click();
  document.body.offsetHeight; return performance.now() - began; }"""
_FILTERED = """() => { const began = performance.now(); const find = document.querySelector('[data-control=text]');
  find.value = 'dpdk'; find.dispatchEvent(new Event('input')); document.body.offsetHeight;
  return performance.now() - began; }"""


def main() -> None:
    """Print a line a figure beside what is wanted, and write them as JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--times", type=int, default=5, help="repeats; medians are given")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), repeat=2, pad_trials=TRIALS)
        page = Path(folder) / "report.html"
        seconds = [render(run, page) for _ in range(chosen.times)]
        figures = {"trials": TRIALS, "render_s": statistics.median(seconds), "size_bytes": page.stat().st_size,
                   **browse(page, chosen.times)}
    for name, value in figures.items():
        wanted = f"  (wanted: under {WANTED[name]:,g})" if name in WANTED else ""
        print(f"{name:16} {value:12,.2f}{wanted}")
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
