# SPDX-License-Identifier: Apache-2.0
"""xdpgen's RPC as a target: recorded requests of a real client that this server takes for its own client's."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from harness.generator.xdpgen.rpc import dispatch
from harness.generator.xdpgen.rpc.codec import MAX_REQUEST
from harness.generator.xdpgen.rpc.ports import Owner
from tests.unit.generator.recorded import exchanges
from tests.unit.generator.rpc_client import Direct

#: Known beforehand, so that a request can carry them: without, none gets beyond the check of its handle.
_API = "api-hand"
_HANDLERS = ("handler0", "handler1")
#: Requests to one server.
_LIFE = 500
_MOST_SEEDS = 300


class _Unexpected(logging.Handler):
    """The server reports what it did not expect, and lives on: here that is a finding."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]


class Target:
    """A server that reads one request after the other; renewed now and then, ports kept in our hands."""

    def __init__(self) -> None:
        log = logging.getLogger(dispatch.__name__)
        log.handlers, log.propagate = [_Unexpected()], False
        self._left = 0

    def _server(self) -> Direct:
        if not self._left:
            self._direct, self._left = Direct(), _LIFE
            self._direct.state.api_handle = _API
        self._left -= 1
        for port, handler in zip(self._direct.state.ports.values(), _HANDLERS, strict=True):
            port.owner = replace(port.owner or Owner("t", Direct.session, handler), handler=handler)
        return self._direct

    def read(self, data: bytes) -> None:
        """One request, its reply, and a moment in which traffic may run or end."""
        server = self._server()
        assert server.core.handle(data[:MAX_REQUEST])
        server.run(0.01)
        server.events()


def good() -> list[bytes]:
    """Requests as they were recorded, with this server's handles."""
    every = []
    for exchange in exchanges():
        params = dict(exchange.params)
        if "api_h" in params:
            params["api_h"] = _API
        if "handler" in params and params.get("port_id") in (0, 1):
            params["handler"] = _HANDLERS[params["port_id"]]
        every.append(json.dumps({"jsonrpc": "2.0", "id": 1, "method": exchange.method, "params": params}).encode())
    return sorted(set(every))[:_MOST_SEEDS]
