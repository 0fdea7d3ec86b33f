# SPDX-License-Identifier: Apache-2.0
"""What a method is: the handler, and what is checked before it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.generator.xdpgen.rpc.params import Params
from harness.generator.xdpgen.rpc.state import ServerState

Handler = Callable[[ServerState, Params], Any]


@dataclass(frozen=True)
class Method:
    """``api``: needs the handle of ``api_sync_v2``. ``owned``: needs the handler of its port's owner."""

    run: Handler
    api: bool = True
    owned: bool = False
