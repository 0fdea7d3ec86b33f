# SPDX-License-Identifier: Apache-2.0
"""CPU, latency, pauses, accounting and verdicts from made-up recordings with known answers."""

from __future__ import annotations

import pytest

from harness.generator.contract import DirectionResult, LatencyResult, SelfReport, TrafficResult
from harness.generator.histogram import merge, percentile, thin
from harness.host.contract import CpuSample, Sampling, Speed
from harness.measure.accounting import Readings, bounded, losses_by_place, rise, unread
from harness.measure.cpu import add_cycles, cpu_of_trial, extra_work, handled, others
from harness.measure.latency import percentiles
from harness.measure.pauses import PauseLog, within
from harness.measure.verdicts import judge, lost_in_pauses, short_of, stretched
from harness.plan import Role
from harness.records import Direction, Phase, Trial, Verdict

S = 1_000_000_000


def traffic(asked: int, sent: int, received: int, *, stall: int = 0, real: float = 1.0, use: float = 0.5,
            refused: int = 0) -> TrafficResult:
    direction = DirectionResult(tx_port=0, rx_port=0, asked=asked, sent=sent, received=received, refused=refused,
                                skipped={"stall": stall} if stall else {})
    return TrafficResult([direction], [], SelfReport(1.0, real, 0, S, use, 0))


def trial(sent: int, lost: int, unexplained: int = 0) -> Trial:
    return Trial(number=1, point="p", repeat=0, phase=Phase.SEARCH, started_at="", asked_pps=sent, duration_s=1.0,
                 real_s=1.0, sent=sent, lost=lost, received=sent - lost, offered_pps=sent, unexplained=unexplained)


def verdicts(t: Trial, tr: TrafficResult, pauses: PauseLog, queues: int = 2) -> list[Verdict]:
    t.directions = [Direction(tx_port=d.tx_port, rx_port=d.rx_port, asked=d.asked, sent=d.sent, received=d.received,
                              lost=d.sent - (d.received or 0), skipped=d.skipped) for d in tr.directions]
    t.spoilt = lost_in_pauses(t, pauses)
    return judge(t, tr.report, lab=False, live_queues=queues)


QUIET = PauseLog([], [])


def test_shortfall_that_is_no_pause_is_the_generators() -> None:
    assert verdicts(trial(990, 0), traffic(1000, 990, 990), QUIET) == [Verdict.GENERATOR_LIMITED]
    assert verdicts(trial(990, 0), traffic(1000, 990, 990, stall=10), QUIET) == [Verdict.PAUSED]
    assert verdicts(trial(1000, 0), traffic(1000, 1000, 1000), QUIET) == []
    assert short_of(traffic(1000, 980, 980, stall=15)) == 5


def test_duration_stretching_is_seen() -> None:
    stretch = traffic(1000, 1000, 1000, real=2.6)
    assert stretched(stretch.report)
    assert verdicts(trial(1000, 0), stretch, QUIET) == [Verdict.GENERATOR_LIMITED]
    assert not stretched(traffic(1000, 1000, 1000, real=1.03).report)


def test_a_pause_excuses_only_what_arrived_while_it_lasted_and_only_on_its_side() -> None:
    def spoilt(losses: dict[str, int], pauses: PauseLog) -> bool:
        lost = trial(100_000, sum(losses.values()))
        lost.losses = losses
        return lost_in_pauses(lost, pauses)

    dut, generator = PauseLog([], [(0, 2_000_000)]), PauseLog([(0, 2_000_000)], [])
    assert spoilt({"DUT ring": 200}, dut)
    assert not spoilt({"DUT ring": 201}, dut)
    assert not spoilt({"DUT ring": 50}, generator)
    assert spoilt({"return path": 200}, generator)
    assert not spoilt({"return path": 50}, dut)
    assert not spoilt({"DUT ring": 50}, PauseLog([], [(0, 1_000_000)]))
    assert not spoilt({}, dut)


def test_what_pauses_can_have_cost_is_a_part_of_the_loss_and_of_its_side() -> None:
    both = PauseLog([(0, 3_000_000)], [(0, 2_000_000)])
    assert both.lost_at_most({"DUT ring": 1000, "return path": 50}, 100_000) == 200 + 50
    assert both.lost_at_most({"socket buffer": 150, "generator receive": 1000}, 100_000) == 150 + 300
    assert QUIET.lost_at_most({"DUT ring": 1000}, 100_000) == 0


def test_a_generator_that_skips_does_not_excuse_loss() -> None:
    lost = trial(90_000, 50)
    lost.losses = {"DUT ring": 50}
    skipping = traffic(100_000, 90_000, 89_950, stall=10_000)
    assert Verdict.PAUSED in verdicts(lost, skipping, QUIET)
    assert not lost_in_pauses(lost, QUIET)


def test_unexplained_loss_and_lab_verdicts() -> None:
    assert Verdict.UNEXPLAINED_LOSS in verdicts(trial(1000, 20, 11), traffic(1000, 1000, 980), QUIET)
    assert Verdict.UNEXPLAINED_LOSS not in verdicts(trial(1000, 20, 9), traffic(1000, 1000, 980), QUIET)
    found = judge(trial(1000, 0), traffic(1000, 1000, 1000).report, lab=True, live_queues=1)
    assert found == [Verdict.LAB, Verdict.LAB_RSS]
    assert judge(trial(1000, 0), traffic(1000, 1000, 1000).report, lab=False, live_queues=1) == [Verdict.LAB_RSS]


def test_pauses_are_cut_to_the_trial() -> None:
    assert within([(0, 50), (90, 20), (500, 5), (95, 0)], 40, 100) == [(40, 10), (90, 10)]
    record = PauseLog([(0, 5)], [(0, 7), (1, 3)]).record("probe")
    assert (record.generator, record.dut, record.total_ns, record.longest_ns) == (1, 2, 15, 7)


def sample(at_s: float, user: float, idle: float, run_s: float | None) -> CpuSample:
    ticks = {0: {"user": user, "idle": idle}, 1: {"user": 0.0, "idle": at_s}}
    run = None if run_s is None else {0: round(run_s * S), 1: 0}
    return CpuSample(round(at_s * S), ticks, run)


def test_cpu_uses_only_samples_inside_the_trial() -> None:
    sampling = Sampling([sample(0, 0, 0, 0), sample(1, 0.9, 0.1, 0.9), sample(3, 1.9, 1.1, 1.8), sample(9, 9, 9, 9)],
                        [], 0.009, probe_costs={0: 0.0045, 1: 0.0009})
    cpu = cpu_of_trial(sampling, round(0.5 * S), round(3.5 * S), [0], 3.0)
    assert cpu is not None
    assert cpu.seconds == pytest.approx(2.0)
    assert not cpu.indicative
    assert cpu.cores[0].given
    assert cpu.cores[0].user == pytest.approx(0.5)
    assert cpu.cores[0].run == pytest.approx(0.45)
    assert cpu.busy_cores == pytest.approx(0.45)
    assert cpu.sampling_cost == pytest.approx(0.001)
    assert cpu.probe_cost == pytest.approx(0.0005)
    add_cycles(cpu, 300_000, 2.5e9, 3.0)
    assert cpu.cycles_per_packet == pytest.approx(0.45 * 2.5e9 / 100_000)
    assert cpu_of_trial(sampling, 4 * S, 8 * S, [0], 3.0) is None
    assert cpu_of_trial(sampling, 0, 20 * S, [0], 20.0) is None


def test_cores_that_come_and_go_and_times_that_fall_make_no_figures() -> None:
    """Core 1 goes off line during the trial and core 2 comes; iowait falls by a tick, as the kernel documents."""
    first = CpuSample(0, {0: {"user": 1.0, "iowait": 0.51}, 1: {"user": 0.0}}, {0: 5, 1: 0})
    last = CpuSample(2 * S, {0: {"user": 2.0, "iowait": 0.5}, 2: {"user": 0.0}}, {0: S + 5, 2: 0})
    cpu = cpu_of_trial(Sampling([first, last], [], 0.0), 0, 2 * S, [0, 2], 2.0)
    assert cpu is not None
    assert [(core.core, core.user, core.idle, core.run) for core in cpu.cores] == [(0, 0.5, 0.0, 0.5)]


def test_cycles_are_for_the_frames_that_the_dut_worked_on_or_not_given() -> None:
    """Above its capacity a stack works on frames that it drops later: dividing by what came back says too much."""
    tight, over = trial(100_000, 900), trial(100_000, 40_000)
    assert handled(tight, Role.ECHO, {}) == (99_100, "")
    frames, why = handled(over, Role.ECHO, {})
    assert frames == 0
    assert "40,000 more that were lost" in why
    over.losses = {"tx ring": 40_000}
    assert handled(over, Role.ECHO, {"received": 100_000}) == (100_000, ""), "it received what it could not send"
    over.losses = {"DUT ring": 40_000}
    assert handled(over, Role.ECHO, {"received": 60_000}) == (60_000, ""), "the ring's losses cost the cores nothing"
    over.losses = {"socket buffer": 40_000}
    assert handled(over, Role.ECHO, {"received": 60_000})[0] == 0, "softirq worked on them"
    over.losses, over.unexplained = {}, 40_000
    assert handled(over, Role.ECHO, {"received": 60_000})[0] == 0


def test_other_programs_on_the_given_core_are_named() -> None:
    sampling = Sampling([sample(0, 0, 0, 0), sample(2, 2.0, 0.0, 2.0)], [], 0.0,
                        {(0, "compiler"): 1.0, (0, "linux-udp"): 0.6, (0, "napi/d0-6"): 0.4, (1, "compiler"): 2.0})
    cpu = cpu_of_trial(sampling, 0, 2 * S, [0], 2.0)
    assert cpu is not None
    assert cpu.busy_cores == pytest.approx(1.0)
    assert others(cpu, sampling, ["linux-udp"]) == ["core 0: compiler 50.0 %"]
    assert cpu.busy_cores == pytest.approx(1.0)


def test_work_on_other_cores_is_named() -> None:
    sampling = Sampling([sample(0, 0, 0, 0), sample(2, 0, 2, 0)], [], 0.0,
                        {(1, "napi/d0-5"): 0.5, (1, "generator"): 2.0, (0, "napi/d0-6"): 1.0, (1, "napi/d1-1"): 0.01})
    cpu = cpu_of_trial(sampling, 0, 2 * S, [0], 2.0)
    assert cpu is not None
    assert extra_work(cpu, sampling, ["napi/d"], shared_cores=True) == ["core 1: napi/d0-5 25.0 %"]


def latency(histogram: list[tuple[int, int]], sent: int) -> LatencyResult:
    received = sum(c for _, c in histogram)
    return LatencyResult(0, sent, received, 0, 0, 0, histogram[0][0], histogram[-1][0], 50.0, 1.0, histogram, 1)


def test_percentiles_need_ten_samples_behind_them() -> None:
    histogram = [(v, 1) for v in range(1, 1001)]
    assert percentile(histogram, 0.5) == 500
    assert percentile(histogram, 0.99) == 990
    assert percentile(histogram, 0.999) is None
    assert percentile([], 0.5) is None
    found = percentiles([latency(histogram, 1003), latency([(2000, 9000)], 9000)])
    assert found is not None
    assert (found.samples, found.lost, found.p50_ns, found.max_ns, found.p999_ns) == (10_000, 3, 2000, 2000, 2000)


def test_thinning_keeps_totals() -> None:
    histogram = merge([[(v, 2) for v in range(1000)], [(5, 1)]])
    assert sum(c for _, c in thin(histogram)) == 2001
    assert len(thin(histogram)) <= 400


def test_every_lost_frame_gets_one_place() -> None:
    before = Readings({"d0": {"rx_queue_0_drops": 5, "rx_missed_errors": 1}}, {"udp.RcvbufErrors": 3}, {})
    after = Readings({"d0": {"rx_queue_0_drops": 15, "rx_missed_errors": 11}},
                     {"udp.RcvbufErrors": 10, "softnet.1.dropped": 4}, {"application": 2})
    places = losses_by_place(before, after, traffic(100, 100, 60, refused=20))
    assert places == {"DUT ring": 30, "softirq backlog": 4, "socket buffer": 7, "application": 2}
    own = Readings(after.dut, after.system, {"socket buffer": 6})
    assert losses_by_place(before, own, traffic(100, 100, 60))["socket buffer"] == 6


def test_a_loss_that_stack_and_port_both_count_is_counted_once() -> None:
    """veth counts a frame that an AF_XDP socket had no room for as its own drop."""
    before = Readings({"d0": {"rx_queue_0_drops": 10}}, {}, {"AF_XDP rx ring": 4}, 4)
    after = Readings({"d0": {"rx_queue_0_drops": 35}}, {}, {"AF_XDP rx ring": 24}, 24)
    assert losses_by_place(before, after, traffic(100, 100, 70, refused=5)) == {"DUT ring": 10, "AF_XDP rx ring": 20}


def test_counters_explain_no_more_than_was_lost_and_the_tests_own_come_first() -> None:
    """A management daemon's datagrams to no socket, and the backlog of a core that is not the point's."""
    after = Readings({"d0": {"rx_queue_0_drops": 20}}, {"softnet.1.dropped": 5, "softnet.7.dropped": 900,
                                                        "udp.NoPorts": 300}, {"application": 4})
    places = losses_by_place(Readings({"d0": {"rx_queue_0_drops": 0}}), after, traffic(100, 100, 70), [0, 1])
    assert places == {"application": 4, "DUT ring": 20, "softirq backlog": 5, "no socket": 300}
    assert bounded(places, 30) == ({"application": 4, "DUT ring": 20, "softirq backlog": 5, "no socket": 1}, 299)
    assert bounded(places, 22) == ({"application": 4, "DUT ring": 18}, 307)
    assert bounded(places, 400) == (places, 0)
    assert bounded(places, -3) == ({}, 329), "a trial that received more than was sent has no losses"


def test_what_no_counter_told_of_is_unknown_and_not_zero() -> None:
    """A reading without the qdisc's counter, at either end, says nothing about it; what an earlier one counted is not
    the trial's."""
    with_it, without = Readings({"d0": {"qdisc.tbf@1:.drops": 900}}), Readings({"d0": {"rx_packets": 5}})
    sent = traffic(100, 100, 70)
    for before, after in ((without, with_it), (with_it, without), (without, without), (Readings(), with_it)):
        assert "qdisc" not in losses_by_place(before, after, sent)
        assert "queueing discipline of d0" in unread(before, after)["qdisc"]
        record = trial(100, 30)
        record.unread = unread(before, after)
        assert record.lost_at("qdisc") is None
    grown = Readings({"d0": {"qdisc.tbf@1:.drops": 930}})
    assert losses_by_place(with_it, grown, sent) == {"qdisc": 30}
    another = Readings({"d0": {"qdisc.pfifo@2:.drops": 12}})
    assert losses_by_place(with_it, another, sent) == {"qdisc": 12}, "put there during the trial: it began at zero"
    assert unread(with_it, grown) == unread(Readings(), Readings()) == {}
    assert trial(100, 30).lost_at("qdisc") == 0


def test_counters_of_32_bits_go_round_and_others_are_set_back() -> None:
    most = 2**32
    before = {"softnet.1.dropped": most - 10, "qdisc.fq@1:.drops": most - 1, "qdisc.fq@2:.drops": 500, "tx_dropped": 90}
    after = {"softnet.1.dropped": 5, "qdisc.fq@1:.drops": 0, "qdisc.fq@2:.drops": 3, "tx_dropped": 4}
    assert rise(before, after) == {"softnet.1.dropped": 15, "qdisc.fq@1:.drops": 1}


def speeds(*at: tuple[int, int] | None) -> list[CpuSample]:
    """A sample a second; of core 0 (APERF, MPERF) or (kHz, 0)."""
    return [CpuSample(n * S, {0: {"user": 0.9 * n, "idle": 0.1 * n}}, None, {} if one is None else {0: one})
            for n, one in enumerate(at)]


@pytest.mark.parametrize(("source", "nominal", "read", "known"), [
    # 2 GHz of base: half of it in the second second, idle in the third
    ("APERF/MPERF", 2e9, [(0, 0), (1000, 1000), (1500, 2000), (1500, 2000), (2500, 2500)], (2e9, 1e9, 4e9)),
    ("APERF/MPERF", 2e9, [(2**64 - 500, 7), (500, 1007)], (2e9, 2e9, 2e9)),
    ("scaling_cur_freq", None, [(1_000_000, 0), (3_000_000, 0), None], (2e9, 1e9, 3e9)),
    ("APERF/MPERF", 2e9, [(5, 5), None, None], None),
    ("APERF/MPERF", None, [(0, 0), (5, 5)], None),
    ("", 2e9, [None, None], None),
])
def test_frequency_is_that_of_the_trial(source: str, nominal: float | None, read: list[tuple[int, int] | None],
                                        known: tuple[float, float, float] | None) -> None:
    samples = speeds(*read)
    sampling = Sampling(samples, [], 0.0, speed=Speed(source, "" if source else "no such file", {0: 3}))
    cpu = cpu_of_trial(sampling, 0, (len(read) - 1) * S, [0], 3.0, nominal)
    assert cpu is not None
    found = cpu.cores[0].frequency
    assert (None if found is None else (found.mean_hz, found.least_hz, found.most_hz)) == known
    assert cpu.cores[0].throttled == 3
    assert cpu.frequency_source.startswith("not available: ") is (not source or (nominal is None and known is None))
    other = cpu_of_trial(sampling, 0, (len(read) - 1) * S, [], 3.0, nominal)
    assert other is not None
    assert (other.cores[0].frequency, other.cores[0].throttled) == (None, None), "a core that the stack was not given"
