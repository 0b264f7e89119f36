"""The headers of a request that tritonserver hands on to models, as parameters of the same names."""

from __future__ import annotations

import re

TRACEPARENT = "traceparent"
"""W3C Trace Context: the span of the caller."""

PATTERN = "|".join(map(re.escape, (TRACEPARENT,)))
"""For --grpc-header-forward-pattern and --http-header-forward-pattern, which take one regular expression each."""
