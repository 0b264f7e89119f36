"""One record of the server's log: read from what its processes write, written as plain text or as JSON.

Python code of models writes one JSON object a line, with its traceback and the trace that it belongs to, so that the
launcher, which writes the log, need not guess where a record ends. Triton server writes lines in the form of glog; what
is neither (a C library's message, Python's when it ends) is a record by itself.
"""

from __future__ import annotations

import json
import logging
import re
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

_OURS = '{"tridex_log": '
_GLOG = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ (\S+?)\] ?(.*)")
_YEAR_10000 = 253_402_300_800
_LEVELS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}


LogFormat = Literal["plain", "json"]
"""How the log is written."""


@dataclass(frozen=True)
class LogRecord:
    """Something that a process of the server has to say."""

    source: str
    """"launcher", "tritonserver", or a model."""
    message: str
    level: str = "INFO"
    at: Annotated[float, Field(ge=0, lt=_YEAR_10000)] = 0.0
    """Seconds since the epoch."""
    details: str = ""
    """A traceback."""
    trace_id: str = ""
    """32 hexadecimal digits, of the request that it is about."""

    def formatted(self, as_: LogFormat) -> str:
        """A line, or in plain text several, of which all but the first are indented."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.at)) + f".{int(self.at % 1 * 1000):03}Z"
        if as_ == "json":
            given = {name: value for name, value in asdict(self).items() if value and name != "at"}
            return json.dumps({"time": at, **given})
        trace = f" trace_id={self.trace_id}" if self.trace_id else ""
        message, *further = self.message.splitlines() or [""]
        details = "".join(f"\n    {line}" for line in (*further, *self.details.splitlines()))
        return f"{at} {self.level} {self.source}: {message}{trace}{details}"

    def to_launcher(self) -> str:
        """The line by which a model's process hands it to the launcher."""
        return f"{_OURS}{json.dumps(asdict(self))}}}"


_LINE = TypeAdapter(dict[Literal["tridex_log"], LogRecord])


def read_line(line: str) -> LogRecord:
    """The record of a line that a process has written."""
    if line.startswith(_OURS):
        try:
            return _LINE.validate_json(line)["tridex_log"]
        except ValidationError:
            pass  # cut, as where its writer died
    now = time.time()
    if glog := _GLOG.fullmatch(line):
        message = glog[3]
        if message.startswith('"') and message.endswith('"') and len(message) > 1:
            message = message[1:-1].replace(r"\"", '"')
        return LogRecord("tritonserver", message, _LEVELS[glog[1]], now)
    return LogRecord("tritonserver", line, at=now)


class ToLauncher(logging.Formatter):
    """Formats Python's log records for the launcher."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def format(self, record: logging.LogRecord) -> str:
        details = self.formatException(record.exc_info) if record.exc_info else ""
        return LogRecord(
            self._model,
            record.getMessage(),
            record.levelname,
            record.created,
            details,
            getattr(record, "trace_id", None) or "",
        ).to_launcher()
