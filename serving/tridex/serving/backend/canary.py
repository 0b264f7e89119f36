"""A model's canary: it has to answer, every few seconds, what it answered first.

So a model that lives, is not stuck, and answers wrongly or with errors is noticed, although nobody else asks it. It is
asked within its own process, so that it needs no key and is counted among no requests but those that wait. That it is
refused as others are while the server is busy or stops says nothing about it; that it waits for a minute is trouble.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .background import Background, LoggedErrors
from .service import ErrorCode, RequestError, Service

_EVERY_S = 10.0
"""A search's canary computes for some 10 ms."""

_STUCK_S = 60.0
"""More than an answer may take, also of a busy model."""

_MOST_FAILURES = 3
"""In a row: so many failures are no accident, and only a new process can mend them."""

_TOLERANCE = 0.1
"""How far an answer may be from the first one, relative to it: what runs on a GPU depends on the batch a little, graphs
in int8 more."""

_MAX_REASON = 200
"""Characters."""

_NO_VERDICT = {ErrorCode.UNAVAILABLE, ErrorCode.OVERLOADED, ErrorCode.DEADLINE_EXCEEDED}


class WrongAnswerError(Exception):
    """The canary was answered otherwise than at first."""


class FirstAnswer:
    """The first good answer to a canary, which every later one has to be like."""

    def __init__(self) -> None:
        self._first: NDArray[Any] | None = None

    def check(self, answer: NDArray[Any]) -> None:
        """Raises WrongAnswerError where an answer is not finite, nothing but zeros, or not what the first one was."""
        first = answer if self._first is None else self._first
        if not np.isfinite(answer).all():
            raise WrongAnswerError("its numbers are not finite")
        if answer.shape != first.shape:
            raise WrongAnswerError(f"its shape is {answer.shape}; expected {first.shape}")
        if not answer.any():
            raise WrongAnswerError("its numbers are zeros")
        distance = float(np.linalg.norm(answer - first) / np.linalg.norm(first))
        if not distance <= _TOLERANCE:  # also where it is not a number
            raise WrongAnswerError(f"it is {distance:.0%} away from the first one; expected at most {_TOLERANCE:.0%}")
        self._first = first


class Canary:
    """A thread that asks a service until it is closed."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._errors = LoggedErrors()
        self._failures = 0
        self._reason: str | None = None
        self._thread = Background("canary", "asks the canary", self._ask, stuck_after_s=_STUCK_S)
        self._thread.start()

    def trouble(self) -> str | None:
        """What was wrong with the last answer, or that there is none; None where nothing was."""
        return self._reason or self._thread.trouble()

    def failure(self) -> str | None:
        """What was wrong so often that only a new process can mend it, None where nothing was."""
        return self._reason if self._failures >= _MOST_FAILURES else None

    def close(self) -> None:
        """Asks no more."""
        self._thread.close(join=False)

    def _ask(self) -> float:
        try:
            self._service.check()
        except Exception as error:
            if not (isinstance(error, RequestError) and error.code in _NO_VERDICT) and not self._thread.closed:
                self._failures += 1
                self._reason = f"its canary was answered wrongly: {' '.join(str(error).split())[:_MAX_REASON]}"
                self._errors.log(self, error, "the canary was answered wrongly")
        else:
            self._failures, self._reason = 0, None
            self._errors.resolved(self)
        return _EVERY_S
