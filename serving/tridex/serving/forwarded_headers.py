"""The headers of a request that tritonserver hands on to models, as parameters of the same names."""

from __future__ import annotations

from typing import Any

AUTHORIZATION = "authorization"
"""The caller's API key."""
TRACEPARENT = "traceparent"
"""W3C Trace Context: the caller's span."""

PATTERN = f"(?i)({AUTHORIZATION}|{TRACEPARENT})"
"""For --grpc-header-forward-pattern and --http-header-forward-pattern, which take one regular expression each."""


def take_header(parameters: dict[str, Any], header: str) -> Any:
    """Takes a header out of a request's parameters: no message and no log can repeat it. None where there is none."""
    taken = [parameters.pop(name) for name in list(parameters) if name.lower() == header]
    return taken[0] if taken else None
