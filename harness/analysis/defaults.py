# SPDX-License-Identifier: Apache-2.0
"""Parameters of a point without those at their default, by which it is found again in another run.

A run records every parameter that its stack had then, and a stack gets new ones: a run made before and one made after
measured the same where the new parameter has its default, which is what the stack did before it had the parameter.
Values are compared with the defaults of the stack as it is now: where a default was changed, runs before and after keep
apart, because both recorded theirs. Of a stack that is not there (any more) parameters are left as they were recorded.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from harness import stacks
from harness.errors import UsageError


@functools.lru_cache(maxsize=4096)
def without_defaults(stack: str, params: str) -> str:
    """``params``: JSON object as in :class:`harness.analysis.metrics.PointKey`; the same without what is at the default
    that ``stack`` declares."""
    given: dict[str, Any] = json.loads(params)
    known = _declared(stack)
    # As JSON: True is no 1.
    return json.dumps({name: value for name, value in given.items()
                       if name not in known or json.dumps(known[name]) != json.dumps(value)}, sort_keys=True)


@functools.lru_cache(maxsize=256)
def _declared(stack: str) -> Mapping[str, Any]:
    try:
        return stacks.defaults(stack)
    except (UsageError, ImportError):
        return {}  # a stack that cannot be loaded here is none that defaults are known of
