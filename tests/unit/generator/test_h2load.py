# SPDX-License-Identifier: Apache-2.0
"""h2load's output as nghttp2 1.52.0 wrote it, over loopback against accept-server: 300 connections, 3 every 10 ms."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import GeneratorError
from harness.generator.h2load import ConnectTimes, Summary, command, pace, parse_log, parse_summary
from harness.generator.histogram import percentile

RECORDED = Path(__file__).parents[2] / "data" / "h2load" / "1.52.0"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="ascii")


@pytest.mark.parametrize(("name", "summary"), [
    ("completed", Summary(300, 300, 300, 0, 0, None)),
    ("interrupted", Summary(300, 185, 120, 180, 65, None)),  # the server stopped after 0.4 s with a backlog of 64
    ("stopped", Summary(300, 65, 0, 300, 65, None)),  # it was stopped throughout: 64 + 1 fit into its queue
    ("refused", Summary(300, 0, 0, 300, 0, None)),  # nobody listened
])
def test_counts_of_real_runs_are_read(name: str, summary: Summary) -> None:
    found = parse_summary(recorded(f"{name}.txt"))
    assert (found.total, found.started, found.succeeded, found.failed, found.timeout) == (
        summary.total, summary.started, summary.succeeded, summary.failed, summary.timeout)
    assert (found.connect is not None) == (found.succeeded > 0), "no handshake times where none was completed"


def test_handshake_times_are_read_with_their_units() -> None:
    assert parse_summary(recorded("interrupted.txt")).connect == ConnectTimes(21_000, 229_000, 77_000, 52_000)
    text = recorded("interrupted.txt")
    mixed = text.replace("     21us       229us        77us", "   981us      1.07s        1.50ms")
    assert parse_summary(mixed).connect == ConnectTimes(981_000, 1_070_000_000, 1_500_000, 52_000)


@pytest.mark.parametrize(("old", "new"), [
    ("requests: ", "reqs: "), ("120 succeeded", "121 succeeded"), ("180 errored", "181 errored"),
    ("120 2xx, 0 3xx", "119 2xx, 1 3xx"), ("status codes", "codes"),
])
def test_output_that_is_cut_or_contradicts_itself_is_an_error(old: str, new: str) -> None:
    with pytest.raises(GeneratorError, match=r"without its summary|contradicts itself"):
        parse_summary(recorded("interrupted.txt").replace(old, new))


@pytest.mark.parametrize(("name", "replies"), [("completed", 300), ("interrupted", 120)])
def test_the_log_gives_a_distribution_that_agrees_with_the_summary(name: str, replies: int) -> None:
    log = parse_log(recorded(f"{name}.log").splitlines(keepends=True))
    assert sum(count for _, count in log.histogram) == replies
    assert log.histogram == sorted(log.histogram)
    assert (log.histogram[0][0], log.histogram[-1][0]) == SUMMARISED[name], "its own min and max"
    assert percentile(log.histogram, 0.5) in dict(log.histogram)
    assert percentile(log.histogram, 0.99) is None, "too few connections for a p99"
    assert 0 < log.jitter_ns < log.histogram[-1][0]


#: "time for request", min and max, of the same outputs; ns.
SUMMARISED = {name: tuple(int(word.removesuffix("us")) * 1000 for word in line.split()[3:5])
              for name in ("completed", "interrupted")
              for line in recorded(f"{name}.txt").splitlines() if line.startswith("time for request:")}


@pytest.mark.parametrize("line", ["", "1\t200", "x\t200\t5", "1\t200\t5e3", "1\t200\t" + "9" * 30])
def test_a_log_line_of_another_kind_is_an_error(line: str) -> None:
    with pytest.raises(GeneratorError, match="cannot be read"):
        parse_log(["1795595294478579\t200\t12\n", line])


def test_only_connections_with_a_reply_count_as_timed() -> None:
    assert parse_log(["10\t200\t7\n", "20\t-1\t900\n", "30\t503\t8\n"]).histogram == [(7000, 1)]


@pytest.mark.parametrize("rate", [0.5, 1, 3, 17.3, 100, 333, 1234, 5000, 9_871.4, 16_243, 100_000, 1e6])
def test_the_pace_is_within_a_percent_in_batches_as_small_as_that_allows(rate: float) -> None:
    batch, period = pace(rate)
    assert abs(batch * 1000 / period - rate) <= 0.01 * rate
    assert not any(abs(round(rate * shorter / 1000) * 1000 / shorter - rate) <= 0.01 * rate
                   for shorter in range(1, period)), "a shorter period would have done"


def test_a_rate_that_cannot_be_paced_is_refused() -> None:
    with pytest.raises(GeneratorError, match=r"at least 0\.5"):
        pace(0.1)


def test_the_command_makes_exactly_as_many_connections_and_no_more_threads_than_work() -> None:
    argv = command("http://198.18.0.1:9000/", 7, 1000, 4, "log")
    assert {"--clients=7", "--requests=7", "--rate=1", "--rate-period=1ms", "--threads=1"} <= set(argv)
    assert "--threads=4" in command("http://198.18.0.1:9000/", 5000, 10_000, 4, "log")
