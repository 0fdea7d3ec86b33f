# SPDX-License-Identifier: Apache-2.0
"""Parameters of linux-udp: what is read, what is refused and how."""

from __future__ import annotations

import pytest

from harness import stacks
from harness.errors import UsageError


@pytest.mark.parametrize(("params", "message"), [
    ({"steering": "cpu"}, "set reuseport: true"),
    ({"steering": "ebpf"}, "steering: ebpf picks a socket of a group; set reuseport: true"),
    ({"steering": "random", "reuseport": True}, "steering.*'hash', 'cpu', 'ebpf' or 'incoming-cpu'"),
    ({"batch": 65}, "batch"),
    ({"batch": 0}, "batch"),
    ({"rcvbuf": "4 apples"}, "rcvbuf"),
    ({"rcvbuf": "2G"}, "rcvbuf"),
    ({"mode": "spin"}, "mode.*'block', 'epoll' or 'busy'"),
    ({"busy_poll_us": -1}, "busy_poll_us"),
])
def test_wrong_parameter_says_what_is_right(params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stacks.create("linux-udp", params)


@pytest.mark.parametrize(("params", "polls"), [
    ({}, False), ({"mode": "epoll"}, False), ({"mode": "busy"}, True), ({"busy_poll_us": 50}, True),
    ({"mode": "epoll", "busy_poll_us": 1}, True),
])
def test_polls_where_the_parameters_say_so(params: dict[str, object], polls: bool) -> None:
    assert stacks.create("linux-udp", params).polls() is polls


def test_sizes_are_read_with_units() -> None:
    assert stacks.create("linux-udp", {"rcvbuf": "4M"}).params.model_dump()["rcvbuf"] == 4_000_000
