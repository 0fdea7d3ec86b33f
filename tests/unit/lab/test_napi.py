# SPDX-License-Identifier: Apache-2.0
"""Finding NAPI threads by name: a device's own only."""

from __future__ import annotations

import pytest

from harness.lab import napi
from harness.lab.errors import LabError

COMMS = {10: "napi/hat0-301", 11: "napi/hat0-300", 12: "napi/hat01-302", 13: "napi/what0-303", 14: "bash", 15: None}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(napi, "all_pids", lambda: list(COMMS))
    monkeypatch.setattr(napi, "comm_of", COMMS.get)


def test_threads_come_in_the_order_of_queues() -> None:
    assert list(napi.napi_threads("hat0").items()) == [(300, 11), (301, 10)]


def test_a_missing_thread_is_an_error_not_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(napi, "_APPEAR_S", 0.0)
    with pytest.raises(LabError, match="2 NAPI threads where 3 are expected"):
        napi.pin_napi("hat0", 3, lambda queue: 0)
