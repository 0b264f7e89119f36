"""Calls that touch files and fail as on a failing machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class PanicException(BaseException):
    """As pyo3 raises when Rust code panics: not an Exception, and known by its name only."""


Trouble = Callable[[], BaseException]

OF_THE_SYSTEM: list[Trouble] = [
    lambda code=code: OSError(code, os.strerror(code))  # type: ignore[misc]
    for code in (errno.EMFILE, errno.EIO, errno.ESTALE)
]

OF_LANCE: list[Trouble] = [
    *OF_THE_SYSTEM,
    lambda: ValueError("LanceError(IO): Generic LocalFileSystem error: Input/output error (os error 5)"),
    lambda: TypeError("__init__() missing 3 required positional arguments"),
    lambda: RuntimeError("task 7 was cancelled"),
    lambda: PanicException("called `Option::unwrap()` on a `None` value"),
]


@contextmanager
def failing(owner: Any, name: str, trouble: Trouble, *, after: int = 0) -> Iterator[None]:
    """Every call of that function or method raises, from the `after`th on."""
    whole = getattr(owner, name)
    calls = 0

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise trouble()
        return whole(*args, **options)

    with mock.patch.object(owner, name, call):
        yield
