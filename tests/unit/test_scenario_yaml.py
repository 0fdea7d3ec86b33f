# SPDX-License-Identifier: Apache-2.0
"""YAML from untrusted files: bounded, without surprises, every error with its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import yamlfile
from harness.errors import UsageError

Write = Callable[..., Path]


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        yamlfile.load(path)
    return str(caught.value)


def test_values_are_those_of_yaml_1_2(write: Write) -> None:
    data = yamlfile.load(write("""
        yes: yes
        time: 1:30
        octal: 010
        date: 2026-01-01
        float: 2.5
        text: "64"
        nothing: ~
        truth: true
        list: [1, two]
        """)).data
    assert data == {"yes": "yes", "time": "1:30", "octal": 10, "date": "2026-01-01", "float": 2.5, "text": "64",
                    "nothing": None, "truth": True, "list": [1, "two"]}


def test_every_key_and_value_knows_its_line(write: Write) -> None:
    document = yamlfile.load(write("a: 1\nb:\n  c: 2\n  d:\n    - 3\n    - {e: 4}\n"))
    assert document.where(("b", "d", 1, "e")).endswith(":6")
    assert document.where(("b", "nowhere")).endswith(":2")
    assert document.where().endswith(":1")


def test_aliases_work(write: Write) -> None:
    assert yamlfile.load(write("a: &x [1]\nb: *x\n")).data == {"a": [1], "b": [1]}


BOMB = "a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(("content", "says"), [
    ("", "the file is empty"),
    ("# only a comment\n", "the file is empty"),
    (b"\x7fELF\x02\x01\x01\x00", "not a text file"),
    (b"\xff\xfea\x00", "not a text file"),
    (b"a: \xc3\x28", "not UTF-8"),
    ("a: 1\nb: 2\na: 3\n", "yaml:3: a: key given twice (first in line 1)"),
    ("a:\n  b: 1\n  b: 2\n", "yaml:3: a.b: key given twice"),
    (BOMB, "aliases expand to more than"),
    ("a: &a [*a]\n", "an alias to itself"),
    ("[" * 50 + "]" * 50, "nested deeper than"),
    ("a: [1, 2\nb: 3\n", "not valid YAML"),
    ("a: *nowhere\n", "yaml:1: not valid YAML: found undefined alias"),
    ("a: 1\n---\nb: 2\n", "yaml:2: not valid YAML: expected a single document"),
    ("a: !!python/object/apply:os.system ['true']\n", "yaml:1: a: tag"),
    ("a: !!binary aGk=\n", "yaml:1: a: tag"),
    ("a: !mine {b: 1}\n", "yaml:1: a: tag"),
    ("a: &x {b: 1}\nc:\n  <<: *x\n", "yaml:3: c: merge keys"),
    ("? [a, b]\n: 1\n", "a key is a name"),
    ("a: \t- b\n\t c", "not valid YAML"),
])
def test_refused(write: Write, content: str | bytes, says: str) -> None:
    started = time.monotonic()
    message = refusal(write(content))
    assert says in message
    assert "scenario.yaml" in message
    assert time.monotonic() - started < 2


def test_more_than_a_mebibyte_is_refused_before_it_is_parsed(write: Write) -> None:
    assert "larger than 1 MiB" in refusal(write("a: " + "x" * (1 << 20)))


def test_a_mebibyte_of_values_is_refused_soon(write: Write) -> None:
    started = time.monotonic()
    assert "more than 5000 values" in refusal(write("- 1\n" * 200_000))
    assert time.monotonic() - started < 10


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "missing.yaml")
    assert "not a file" in refusal(tmp_path)
    assert "not a file" in refusal(Path("/dev/zero"))
    assert "cannot be read" in refusal(Path("with\0nul"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(alphabet="ab:-[]{}&*!%|>'\"# \n\t?,01<~", max_size=80)))
def test_hostile_input_is_read_or_refused(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = ""
    try:
        yamlfile.load(path)
    except UsageError as error:
        message = str(error)
    assert not message or "hostile.yaml" in message
