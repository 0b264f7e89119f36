"""Requests whose answer has to wait for the device, while others go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from tridex.serving.backend.background import Background
from tridex.serving.backend.service import Arrays, ErrorCode, Request, RequestError

from .collections import NotYetError

_DEFAULT_WAIT_S = 10.0
"""For a request that does not say how long its sender waits."""

_SHARE = 0.9
"""Of the sender's time: what is left lets the refusal, which says more than a timeout, reach the sender."""

_LOOK_S = 0.02
"""How often what waits is tried without having been told that something changed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pending:
    request: Request
    until: float
    answer: Future[Arrays | RequestError] = field(default_factory=Future)


class PendingSearches:
    """Tries requests again whenever `changed` is notified, until they have an answer or their time is over."""

    def __init__(
        self,
        changed: threading.Condition,
        answer: Callable[[Sequence[Request]], list[Arrays | RequestError | NotYetError]],
    ) -> None:
        self._changed = changed
        self._answer = answer
        self._waiters: list[_Pending] = []
        self._thread = Background("wait", "answers searches that waited", self._try, condition=changed)
        self._thread.start()

    def add(self, request: Request) -> Future[Arrays | RequestError]:
        """The request's answer, when there is one; after its time, a RequestError UNAVAILABLE."""
        wait_s = _DEFAULT_WAIT_S if request.timeout_s is None else _SHARE * request.timeout_s
        waiter = _Pending(request, request.arrived_at + wait_s)
        with self._changed:
            self._waiters.append(waiter)
        self._thread.wake()
        if self._thread.closed:
            self._refuse()
        return waiter.answer

    def trouble(self) -> str | None:
        """What keeps searches from being tried again, None while nothing does."""
        return self._thread.trouble()

    def close(self) -> None:
        """Refuses what still waits."""
        self._thread.close()
        self._refuse()

    def _refuse(self) -> None:
        for waiter in self._taken():
            waiter.answer.set_result(RequestError(ErrorCode.UNAVAILABLE, "the server is stopping"))

    def _taken(self) -> list[_Pending]:
        with self._changed:
            waiters, self._waiters = self._waiters, []
        return waiters

    def _try(self) -> float | None:
        waiters = self._taken()
        try:
            results = self._answer([waiter.request for waiter in waiters]) if waiters else []
        except BaseException:
            # Whatever it was: nobody else would answer them.
            _log.exception("searches that had waited could not be answered")
            lost = RequestError(ErrorCode.INTERNAL, "the search failed while it waited; the server's log says why")
            results = [lost] * len(waiters)
        for waiter, result in zip(waiters, results, strict=True):
            if not isinstance(result, NotYetError):
                waiter.answer.set_result(result)
            elif time.monotonic() >= waiter.until:
                waiter.answer.set_result(RequestError(ErrorCode.UNAVAILABLE, str(result)))
            else:
                with self._changed:
                    self._waiters.append(waiter)
        return _LOOK_S if self._waiters else None
