# SPDX-License-Identifier: Apache-2.0
"""The page as a document: self-contained, valid in structure, inert to hostile text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from harness.errors import UsageError
from harness.report import write_report
from harness.report.charts.canvas import WIDE, drawing, new_figure
from harness.report.charts.svg import to_inline
from harness.report.write import default_output
from tests.unit.report.synthetic import MODELS, make_run

_VOID = {"meta", "br", "input", "link", "img", "hr"}


class Outline(HTMLParser):
    """Tags, ids, attributes and script texts of a page; tags that were not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.misplaced: list[str] = []
        self.text: list[str] = []
        self._script: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids[value or ""] += 1
        if tag == "script":
            self._script = dict(attrs).get("type") or "text/javascript"
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.misplaced.append(tag)

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
            self._script = None
        elif not self.open or self.open[-1] != "style":
            self.text.append(data)


def test_structure(page: str) -> None:
    outline = Outline(page)
    assert outline.misplaced == []
    assert outline.open == []
    assert [ident for ident, times in outline.ids.items() if times > 1] == []
    assert outline.tags["h1"] == outline.tags["main"] == 1
    targets = {value[1:] for _, name, value in outline.attributes if name == "href"}
    assert targets <= set(outline.ids), targets - set(outline.ids)


def test_every_chart_has_a_title_and_a_description(page: str) -> None:
    outline = Outline(page)
    pictures = [value for tag, name, value in outline.attributes if tag == "svg" and name == "aria-labelledby"]
    assert outline.tags["svg"] == len(pictures) == 18
    assert all(set(value.split()) <= set(outline.ids) for value in pictures)
    assert outline.tags["figcaption"] == 9
    assert page.count('role="img"') == 18


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    outline = Outline(page)
    loading = [(tag, name, value) for tag, name, value in outline.attributes
               if name in ("src", "srcset", "action", "poster", "data") or (name == "href" and value[:1] != "#")]
    assert loading == []
    assert not {"img", "link", "iframe", "object", "embed", "image", "base"} & set(outline.tags)
    assert re.findall(r"@import|url\((?!#)", page) == []


def test_the_policy_allows_the_one_script_by_its_hash(page: str) -> None:
    outline = Outline(page)
    policy = next(value for _, name, value in outline.attributes if name == "content" and "default-src" in value)
    programs = [text for kind, text in outline.scripts if kind == "text/javascript"]
    assert len(programs) == 1
    digest = base64.b64encode(hashlib.sha256(programs[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_lab_is_named_in_the_head(page: str) -> None:
    head = page[: page.index("<nav")]
    assert "The wire is virtual." in head
    assert "Bypass stacks" in head


def test_content(page: str) -> None:
    text = " ".join("".join(Outline(page).text).split())
    for expected in ("generator’s ceiling 1.48 Mpps", "line rate 14.9 Mpps",
                     "Throughput by stack in kpps, 64 B frames, per direction",
                     "Invalid number of RX queues", "seed 7", "time x nominal frequency", "Simulated CPU",
                     "harness run scenarios/quickstart.yaml", "AF_XDP copy mode", "at 50 % of PDR"):
        assert expected in text, expected
    assert "1 not as expected, 1 cannot be told, 1 as expected." in text
    assert "<td>powersave</td><td>performance</td><td>a clock that follows the load; cpupower freq" in page
    assert "<td>the host hides it</td><td>off</td><td>cannot be told</td>" in page
    assert "nan" not in re.findall(r"[a-z]+", text)
    assert "None" not in text


def test_trial_data_is_complete(page: str, run_dir: Path) -> None:
    data = [json.loads(text) for kind, text in Outline(page).scripts if kind == "application/json"][1:]
    lines = (run_dir / "trials.jsonl").read_text().count("\n")
    assert [len(entry["rows"]) for entry in data] == [lines]


def test_hostile_text_stays_text(hostile_page: str) -> None:
    outline = Outline(hostile_page)
    assert outline.tags["script"] == 3
    assert "img" not in outline.tags
    assert outline.tags["style"] == outline.tags["title"] - outline.tags["svg"] == 1
    assert [name for _, name, _ in outline.attributes if name.startswith("on")] == []
    assert outline.misplaced == []
    assert "".join(outline.text).count("<script>window.pwned=1</script>") > 20
    assert "{{7*7}}" in hostile_page
    assert not set("\u202e\u0000\u001b") & set(hostile_page)


def test_hostile_figure_text() -> None:
    with drawing(WIDE), matplotlib.rc_context({"svg.fonttype": "none"}):
        figure = new_figure(200, 100)
        figure.text(0.1, 0.5, "</text><script>x</script> $\\frac$ &")
        markup = str(to_inline(figure, "k", "<b>", "--><script>"))
    assert "<script" not in markup
    assert "<b>" not in markup
    assert "&lt;/text&gt;&lt;script&gt;" in markup


def test_chart_colours_are_the_pages(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.S))
    assert "var(--s1)" in drawings
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawings)) == set()


def test_several_runs_in_one_page(tmp_path: Path, run_dir: Path) -> None:
    other = make_run(tmp_path, run_id="second", repeat=1, models=MODELS[3:4])
    alike = Path(shutil.copytree(other, tmp_path / "third"))
    outline = Outline(write_report([other, alike], tmp_path / "both.html").read_text(encoding="utf-8"))
    assert [ident for ident, times in outline.ids.items() if times > 1] == []
    assert outline.tags["article"] == 2
    assert outline.tags["h1"] == 1


def test_an_interrupted_run_has_a_report(tmp_path: Path) -> None:
    folder = make_run(tmp_path, repeat=1, models=MODELS[3:5])
    info = json.loads((folder / "run.json").read_text())
    info["state"] = "interrupted"
    (folder / "run.json").write_text(json.dumps(info))
    (folder / "points.jsonl").unlink()
    text = write_report([folder], tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Nothing was measured" not in text
    assert "not finished" in text
    assert "Throughput by stack" not in text
    assert "CPU by core in core-% over offered load" in text


def test_default_output_is_beside_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_output([Path("/x/results/2025-a")]) == tmp_path / "reports" / "2025-a.html"
    assert default_output([Path("/x/a b<"), Path("/y")]).name == "a-b-and-1-more.html"


def test_errors_name_the_remedy(tmp_path: Path, run_dir: Path) -> None:
    with pytest.raises(UsageError, match="no run to report"):
        write_report([])
    with pytest.raises(UsageError, match="at most 20"):
        write_report([run_dir] * 21)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report([run_dir], tmp_path / "file" / "report.html")
