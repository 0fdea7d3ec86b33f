# SPDX-License-Identifier: Apache-2.0
"""Role accept: a connection counts when both ends say so, and no place is given more than was lost."""

from __future__ import annotations

import pytest

from harness.generator.contract import DirectionResult, SelfReport, TrafficResult
from harness.measure.accounting import Readings
from harness.measure.connections import completed, lost_connections


def traffic(sent: int, received: int, refused: int = 0, late: int = 0, repeated: int = 0, missed: int = 0,
            ) -> TrafficResult:
    told = {"refused": refused, "late": late, "repeated_syns": repeated}
    report = SelfReport(1.0, 1.0, 0, 1, 0.5, 0, extra={"client": told, "receive_drops": {"0": missed}})
    return TrafficResult([DirectionResult(0, 0, sent, sent, received)], [], report)


def after(*, listen: int = 0, application: int = 0, ring: int = 0) -> Readings:
    return Readings({"d0": {"rx_queue_0_drops": ring}}, {"tcpext.ListenDrops": listen}, {"application": application})


@pytest.mark.parametrize(("client", "server", "counts"), [(90, 90, 90), (90, 95, 90), (95, 90, 90)])
def test_completed_is_what_both_ends_count(client: int, server: int, counts: int) -> None:
    assert completed(traffic(100, client), server) == counts


@pytest.mark.parametrize(("sent", "client", "server", "reading", "refused", "places"), [
    (100, 100, 100, after(), 0, {}),
    (100, 90, 90, after(listen=10), 0, {"listen queue": 10}),
    (100, 90, 90, after(listen=4000), 0, {"listen queue": 10}),  # one lost connection is dropped several times
    (100, 80, 80, after(listen=9, application=3), 8, {"refused (RST)": 8, "application": 3, "listen queue": 9}),
    (100, 90, 90, after(ring=4), 0, {"DUT ring": 4}),  # and six unexplained
    (100, 90, 95, after(listen=50), 0, {"listen queue": 5}),  # five that only the server counts: unexplained
    (100, 95, 90, after(listen=50), 0, {"listen queue": 5}),  # five that only the client counts: unexplained
    (100, 100, 90, after(listen=50), 0, {}),
])
def test_places_explain_no_more_than_was_lost_and_never_a_disagreement(
        sent: int, client: int, server: int, reading: Readings, refused: int, places: dict[str, int]) -> None:
    found = lost_connections(Readings({"d0": {}}), reading, traffic(sent, client, refused), server)
    assert found == places


@pytest.mark.parametrize(("aborted", "places"), [
    (5, {"answered too late": 5, "listen queue": 5}),
    (3, {"answered too late": 3, "listen queue": 5}),  # two that nothing explains
    (900, {"answered too late": 5, "listen queue": 5}),
])
def test_a_reply_that_met_a_client_gone_came_too_late(aborted: int, places: dict[str, int]) -> None:
    assert lost_connections(Readings(), after(listen=50), traffic(100, 90, late=aborted), 95) == places


@pytest.mark.parametrize(("repeated", "listen", "missed", "places"), [
    (10, 12, 0, {"listen queue": 10}),  # the queue dropped their SYNs, and that is why they were late
    (10, 4, 0, {"listen queue": 4}),  # of the other six nobody knows where their SYN was
    (3, 12, 0, {"answered too late": 7, "listen queue": 3}),
    (0, 12, 0, {"answered too late": 10}),
    (10, 0, 6, {"generator receive": 6}),
])
def test_what_a_repeated_syn_made_late_is_lost_where_the_first_was_dropped(
        repeated: int, listen: int, missed: int, places: dict[str, int]) -> None:
    """TRex repeats its SYNs: all hundred are completed by the server, ten of them late by the client."""
    made = traffic(100, 90, late=10, repeated=repeated, missed=missed)
    assert lost_connections(Readings(), after(listen=listen), made, 100) == places
