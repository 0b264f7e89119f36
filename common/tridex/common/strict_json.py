"""JSON that every program can read: no NaN or Infinity, which the standard does not have, and no deep nesting."""

from __future__ import annotations

import json
from typing import Any

MAX_DEPTH = 128
"""Objects and lists inside each other: copying or decoding takes two or three stack frames for each, here and in a
client."""


def dumps(value: Any) -> str:
    """Dictionaries, lists and dataclasses as JSON in ASCII, with null for every number that is not finite."""
    try:
        return json.dumps(value, default=vars, allow_nan=False)
    except ValueError:
        read = json.loads(json.dumps(value, default=vars), parse_constant=lambda _: None)
        return json.dumps(read, allow_nan=False)


def check_depth(value: Any) -> None:
    """Raises ValueError where objects and lists are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
