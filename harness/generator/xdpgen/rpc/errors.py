# SPDX-License-Identifier: Apache-2.0
"""The errors a request can end with, one class per JSON-RPC code (trex-stl-rpc.md 1.3)."""

from __future__ import annotations

from typing import Any


class RpcError(Exception):
    """A request failed; ``reply`` is the JSON-RPC error object sent back."""

    code = -32603
    message = "Internal Server Error"

    def __init__(self, specific: str | None = None) -> None:
        super().__init__(specific or self.message)
        self.specific = specific

    def reply(self) -> dict[str, Any]:
        """The ``error`` member of the reply."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.specific is not None:
            error["specific_err"] = self.specific
        return error


class BadJson(RpcError):
    """The message is not JSON, or its compression is broken."""

    code = -32700
    message = "Bad JSON Format"


class BadRequest(RpcError):
    """The message is JSON but not a JSON-RPC request; the text becomes ``message``."""

    code = -32600

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message


class UnknownMethod(RpcError):
    """No such method."""

    code = -32601

    def __init__(self, name: str) -> None:
        super().__init__()
        self.message = f"Method {name} not registered"


class BadParams(RpcError):
    """A parameter is missing, of the wrong type or out of range."""

    code = -32602
    message = "Bad parameters for method"

    def __init__(self, specific: str) -> None:
        super().__init__(specific)


class InternalError(RpcError):
    """The server could not finish the request for a reason of its own."""


class TooLarge(RpcError):
    """The message exceeds the limit."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.message = f"Request is too large ({size} bytes). Consider splitting to smaller chunks."


class ExecuteError(RpcError):
    """The ordinary failure: wrong state, not the owner, a bad stream, ..."""

    code = -32000
    message = "Failed To Execute Method"

    def __init__(self, specific: str) -> None:
        super().__init__(specific)
