"""Searches whose answer has to wait for the device, while others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tridex.serving.backend.background import Background
from tridex.serving.backend.service import Arrays, ErrorCode, HasSender, RequestError, abandoned, as_request_error
from tridex.serving.collections.loaded_collections import NotYetError

_DEFAULT_WAIT_S = 10.0
"""For a request that does not say how long its sender waits."""

_SHARE = 0.9
"""Of the sender's timeout. The rest lets our error, which says more than a timeout, reach the sender."""

_RETRY_S = 0.02
"""How often pending searches are tried without a notification."""


R = TypeVar("R", bound=HasSender)


@dataclass(frozen=True)
class _Pending(Generic[R]):
    request: R
    until: float
    answer: Future[Arrays | RequestError] = field(default_factory=Future)


class PendingSearches(Generic[R]):
    """Tries requests again whenever `changed` is notified, until they have an answer or their time is over."""

    def __init__(
        self,
        changed: threading.Condition,
        answer: Callable[[Sequence[R]], list[Arrays | RequestError | NotYetError]],
    ) -> None:
        self._changed = changed
        self._answer = answer
        self._searches: list[_Pending[R]] = []
        self._thread = Background("pending-searches", "answers pending searches", self._try, condition=changed)
        self._thread.start()

    def add(self, request: R) -> Future[Arrays | RequestError]:
        """The request's answer, when there is one; after its timeout, a RequestError UNAVAILABLE."""
        sender = request.sender
        wait_s = _DEFAULT_WAIT_S if sender.timeout_s is None else _SHARE * sender.timeout_s
        pending = _Pending(request, sender.arrived_at + wait_s)
        with self._changed:
            self._searches.append(pending)
        self._thread.wake()
        if self._thread.closed:
            self._refuse()
        return pending.answer

    def __len__(self) -> int:
        """How many there are."""
        return len(self._searches)

    def trouble(self) -> str | None:
        """What keeps searches from being tried again, None while nothing does."""
        return self._thread.trouble()

    def close(self) -> None:
        """Refuses the searches that are still pending."""
        self._thread.close()
        self._refuse()

    def _refuse(self) -> None:
        for search in self._taken():
            search.answer.set_result(RequestError(ErrorCode.UNAVAILABLE, "the server is stopping"))

    def _taken(self) -> list[_Pending[R]]:
        with self._changed:
            searches, self._searches = self._searches, []
        return searches

    def _try(self) -> float | None:
        searches = self._taken()
        results: list[Arrays | RequestError | NotYetError]
        try:
            left = [search.request.sender.is_cancelled() for search in searches]
            wanted = [search.request for search, has_left in zip(searches, left, strict=True) if not has_left]
            answers = iter(self._answer(wanted) if wanted else [])
            results = [abandoned() if has_left else next(answers) for has_left in left]
        except BaseException as error:
            # Of any kind: nothing else would answer them.
            results = [as_request_error(error, "pending searches could not be answered") for _ in searches]
        for search, result in zip(searches, results, strict=True):
            if not isinstance(result, NotYetError):
                search.answer.set_result(result)
            elif time.monotonic() >= search.until:
                search.answer.set_result(RequestError(ErrorCode.UNAVAILABLE, str(result)))
            else:
                with self._changed:
                    self._searches.append(search)
        return _RETRY_S if self._searches else None
