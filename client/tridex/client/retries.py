"""When a request is sent again: where the server could not be reached or was not ready, within the call's own time.

gRPC has retries too. They run until the deadline, and then report "Deadline Exceeded" in place of the reason.
"""

from __future__ import annotations

import random
import time

from tritonclient.utils import InferenceServerException

from .errors import ClientError, Timeout, Unavailable, from_triton

MAX_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Attempts:
    """The attempts at one call, which are allowed `timeout_s` together; a call that is not `retried` has one.

    Every request may be sent twice: searches read, writes leave the same documents behind. Where the answer to a create
    or drop was lost, the second answer is that the collection exists, or is gone, already; that to an upsert counts the
    documents as replaced, or refuses them where they must not exist.
    """

    def __init__(self, timeout_s: float, *, retried: bool) -> None:
        self._most = MAX_ATTEMPTS if retried else 1
        self._timeout_s = timeout_s
        self._started = time.monotonic()
        self._made = 0
        self._reason = ""

    def left_s(self) -> float:
        """Seconds that the next attempt may take."""
        return self._started + self._timeout_s - time.monotonic()

    def pause_s(self, failure: Exception) -> float:
        """Seconds to wait after an attempt that failed. Raises the call's error where there is to be no other."""
        if not isinstance(failure, InferenceServerException):
            raise ClientError(f"the request could not be sent: {failure!r}") from failure
        self._made += 1
        error = from_triton(failure, self._timeout_s)
        if isinstance(error, Timeout) and self._reason:
            raise Timeout(f"{error}, after UNAVAILABLE: {self._reason}") from failure
        if not isinstance(error, Unavailable):
            raise error from failure
        self._reason = str(error)
        pause = random.uniform(0.5, 1) * min(_FIRST_PAUSE_S * 2.0 ** (self._made - 1), _LONGEST_PAUSE_S)
        if self._made < self._most and pause < self.left_s():
            return pause
        if self._made > 1:
            took = time.monotonic() - self._started
            error = Unavailable(f"{self._reason} (after {self._made} attempts in {took:.1f} s)")
        raise error from failure
