# SPDX-License-Identifier: Apache-2.0
"""One message in, one message out: JSON-RPC requests and batches to methods and back (trex-stl-rpc.md 1.3)."""

from __future__ import annotations

import logging
import secrets
import time
from typing import Any

from harness.errors import GeneratorDied, GeneratorError, HarnessError
from harness.generator.xdpgen.rpc import (
    ownership,
    packets,
    pgid_stats,
    port_config,
    port_stats,
    reports,
    stream_table,
    system,
    traffic,
)
from harness.generator.xdpgen.rpc.codec import decode, encode, is_zipped
from harness.generator.xdpgen.rpc.errors import (
    BadRequest,
    ExecuteError,
    InternalError,
    RpcError,
    UnknownMethod,
)
from harness.generator.xdpgen.rpc.method import Method
from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.state import ServerState

_LOG = logging.getLogger(__name__)
#: Real seconds after which the rest of a batch is refused: clients wait 3 s for a reply.
_BATCH_BUDGET = 0.8


def _get_supported_cmds(state: ServerState, p: Params) -> Any:
    return list(METHODS)


METHODS: dict[str, Method] = {
    **system.METHODS,
    "get_supported_cmds": Method(_get_supported_cmds),
    **ownership.METHODS,
    **stream_table.METHODS,
    **traffic.METHODS,
    **port_stats.METHODS,
    **pgid_stats.METHODS,
    **port_config.METHODS,
    **packets.METHODS,
    **reports.METHODS,
}


class RpcCore:
    """Answers messages for one server state. Not thread-safe."""

    def __init__(self, state: ServerState) -> None:
        self.state = state

    def handle(self, message: bytes) -> bytes:
        """The reply to any message, malformed ones included; zipped exactly when the request was."""
        try:
            request = decode(message)
        except RpcError as error:
            # As recorded: what cannot be read is answered in plain form.
            return encode(_error(None, error), zipped=False)
        try:
            return encode(self._reply(request), zipped=is_zipped(message))
        except (ValueError, RecursionError) as error:
            # Numbers beyond JSON's, or an id nested too deep to be sent back.
            return encode(_error(None, InternalError(f"the reply is not JSON: {error}")), zipped=False)

    def tick(self) -> None:
        """Do what has become due: traffic to start or ended, pushed frames. A dead dataplane ends the server."""
        try:
            self.state.schedule.begin_due()
            traffic.end_finished(self.state)
            packets.send_due(self.state)
        except GeneratorDied as error:
            self.state.died = error
        except GeneratorError as error:
            # Nobody waits for this answer any more.
            _LOG.warning("xdpgen: %s", error)

    def next_due(self) -> float | None:
        """When ``tick`` should be called even without a request (dataplane's clock); None: no need."""
        due = [self.state.schedule.next_due(), traffic.next_end(self.state)]
        due += [one.due for one in self.state.pending[:1]]
        return min((at for at in due if at is not None), default=None)

    def _reply(self, request: Any) -> Any:
        self.tick()
        if not isinstance(request, list):
            return self._answer(request)
        if not request:
            return None
        deadline = time.monotonic() + _BATCH_BUDGET
        replies = [self._answer(one) if time.monotonic() < deadline else _late(one) for one in request]
        return replies[0] if len(replies) == 1 else replies

    def _answer(self, request: Any) -> dict[str, Any]:
        number = _id_of(request)
        try:
            return {"jsonrpc": "2.0", "id": number, "result": self._run(request)}
        except RpcError as error:
            return _error(number, error)
        except HarnessError as error:
            if isinstance(error, GeneratorDied):
                self.state.died = error
            return _error(number, ExecuteError(str(error)))
        except Exception as error:  # noqa: BLE001 - the server must live: report it and go on
            _LOG.exception("xdpgen: unexpected failure of a request")
            return _error(number, InternalError(f"{type(error).__name__}: {error}"))

    def _run(self, request: Any) -> Any:
        if not isinstance(request, dict):
            raise BadRequest("Request is not an object")
        if request.get("id") is None:
            raise BadRequest("Missing 'id' field")
        if request.get("jsonrpc") != "2.0":
            raise BadRequest("Invalid JSONRPC Version")
        name = request.get("method")
        if not isinstance(name, str) or not name:
            raise BadRequest("Missing Method Name")
        if name not in METHODS:
            raise UnknownMethod(name)
        members = request.get("params")
        if not isinstance(members, dict):
            raise ExecuteError("JSON-RPC2 params should be object in TRex case ")
        p = Params(members)
        self._check(METHODS[name], p)
        return METHODS[name].run(self.state, p)

    def _check(self, method: Method, p: Params) -> None:
        if method.api and not secrets.compare_digest(
            p.text("api_h").encode("utf-8", "replace"), self.state.api_handle.encode()
        ):
            raise ExecuteError("API verification failed - API handler provided mismatch for class: 'common'")
        if method.owned:
            self.state.port(p).check_handler(p.text("handler"))


def _id_of(request: Any) -> Any:
    return request.get("id") if isinstance(request, dict) else None


def _error(number: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "error": error.reply()}


def _late(request: Any) -> dict[str, Any]:
    return _error(_id_of(request), InternalError("the batch took too long: send fewer requests at once"))
