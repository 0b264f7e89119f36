"""Records that a process writes again and again, folded into one and a count.

tritonserver may write one line ten thousand times a second, as libevent does where no file descriptor is left.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tridex.serving.log_record import LogRecord

_FOLDED_S = 1.0


class Repeats:
    """Folds the records of a second: what is said twice in it is written once, and how often it came with the next
    record after it, whatever that says."""

    def __init__(self) -> None:
        self._until = 0.0
        self._again: Counter[LogRecord] = Counter()
        """How often each came again. As of no time, so that equal ones are equal."""

    def fold(self, record: LogRecord) -> Iterator[LogRecord]:
        """What is to be written now that this has come."""
        said = replace(record, at=0.0)
        if time.monotonic() > self._until:
            yield from self.rest()
            self._until = time.monotonic() + _FOLDED_S
        if said in self._again:
            self._again[said] += 1
        else:
            self._again[said] = 0
            yield record

    def rest(self) -> Iterator[LogRecord]:
        """What has not been written yet."""
        for said, times in self._again.items():
            if times:
                yield replace(said, message=f"{said.message} (repeated {times} times)", at=time.time())
        self._again.clear()
