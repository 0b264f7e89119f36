"""The caller's trace, as the header `traceparent` has it.

References:
    https://www.w3.org/TR/trace-context/#traceparent-header
"""

from __future__ import annotations

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class TraceContext(NamedTuple):
    """The span of a caller that a request belongs to."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    sampled: bool
    """Whether the caller records it, and so wants the request's spans."""


def parse_traceparent(header: object) -> TraceContext | None:
    """None where there is no header, or one that is malformed, which the standard says to ignore."""
    match = _TRACEPARENT.fullmatch(header) if isinstance(header, str) else None
    if match is None or (match[4] and header[:2] == "00"):  # type: ignore[index]
        return None
    return TraceContext(match[1], match[2], bool(int(match[3], 16) & 1))
