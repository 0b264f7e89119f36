"""JSON for programs that read it: the standard has no NaN and no Infinity, and many parsers refuse them."""

from __future__ import annotations

import json
from typing import Any


def dumps(value: Any) -> str:
    """Dictionaries, lists and dataclasses as JSON in ASCII, with null for every number that is not finite."""
    try:
        return json.dumps(value, default=vars, allow_nan=False)
    except ValueError:
        read = json.loads(json.dumps(value, default=vars), parse_constant=lambda _: None)
        return json.dumps(read, allow_nan=False)
