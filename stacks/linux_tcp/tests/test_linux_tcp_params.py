# SPDX-License-Identifier: Apache-2.0
"""Parameters of linux-tcp: what is refused and how, and what needs more than a host gives."""

from __future__ import annotations

import pytest

from harness import stacks
from harness.errors import UsageError


@pytest.mark.parametrize(("params", "message"), [
    ({"steering": "cpu"}, "set reuseport: true"),
    ({"steering": "ebpf"}, "'hash' or 'cpu'"),
    ({"mode": "busy"}, "'epoll' or 'block'"),
    ({"backlog": 0}, "backlog"),
    ({"backlog": 2_000_000}, "backlog"),
    ({"workers": 65}, "workers"),
])
def test_wrong_parameter_says_what_is_right(params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        stacks.create("linux-tcp", params)


def test_its_cores_do_not_poll() -> None:
    assert not stacks.create("linux-tcp", {"workers": 4, "reuseport": True, "steering": "cpu"}).polls()
