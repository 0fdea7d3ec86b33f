# SPDX-License-Identifier: Apache-2.0
"""linux-drop without a host: parameters, what each place says of itself, and answers of tc as counters."""

from __future__ import annotations

import json

import pytest
from harness.stacks.linux_drop.stack import PLACES, LinuxDropParams
from harness.stacks.linux_drop.tc import action_packets

from harness import stacks
from harness.errors import UsageError
from harness.plan import Role


@pytest.mark.parametrize(("params", "message"), [
    ({"at": "xdp"}, "at.*'socket-unread', 'recvmmsg'"),
    ({"at": "recvmmsg", "rules": 5}, "recvmmsg has no rules; .*socket-filter, iptables-input, iptables-raw"),
    ({"at": "nft-ingress", "conntrack": True}, "before connection tracking sees a packet; .*socket-unread, recvmmsg"),
    ({"at": "iptables-raw", "conntrack": False}, "before connection tracking"),
    ({"rules": 2001}, "rules"), ({"rules": -1}, "rules"),
])
def test_wrong_parameter_says_what_is_right(params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stacks.create("linux-drop", params)


def test_every_place_can_be_named_and_names_itself() -> None:
    assert set(PLACES) == set(LinuxDropParams.model_json_schema()["properties"]["at"]["enum"])
    said = {stacks.create("linux-drop", {"at": at}).role_info(Role.DROP) for at in PLACES}
    assert len(said) == len(PLACES)
    assert {info.discard_counter for info in said} == {"discarded"}


def test_what_was_asked_for_is_in_the_semantics() -> None:
    info = stacks.create("linux-drop", {"at": "iptables-input", "rules": 50, "conntrack": True}).role_info(Role.DROP)
    assert info.semantics.endswith("filter INPUT, after 50 rules that do not match, connections tracked")


def test_only_a_reading_program_works_outside_softirq() -> None:
    assert [at for at in PLACES if not stacks.create("linux-drop", {"at": at}).in_softirq()] == ["recvmmsg"]


def test_packets_of_an_action() -> None:
    """The shape that tc of iproute2 6.1 prints: a filter's head without options, then the filter itself."""
    shown = """[{"protocol":"all","pref":3,"kind":"matchall","chain":0},
      {"protocol":"all","pref":3,"kind":"matchall","chain":0,"options":{"handle":1,"not_in_hw":true,"actions":[
        {"order":1,"kind":"gact","control_action":{"type":"drop"},"prob":{"random_type":"none",
         "control_action":{"type":"pass"},"val":0},"index":1,"ref":1,"bind":1,"installed":3,"last_used":1,
         "stats":{"bytes":460,"packets":10,"drops":10,"overlimits":0,"requeues":0,"backlog":0,"qlen":0}}]}}]"""
    assert action_packets(json.loads(shown)) == 10
    with pytest.raises(LookupError, match="no filter with an action"):
        action_packets(json.loads(shown)[:1])
