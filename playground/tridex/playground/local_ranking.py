"""The bi-encoder beside the server: it encodes the documents once, in a thread, and ranks them in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tridex.common import TridexError


class Ranker(Protocol):
    """What ranks documents in this process; `tridex.evaluation.BiEncoder` does."""

    def search(self, text: str, top_k: int) -> dict[str, float]:
        """The best documents and their scores, best first."""
        ...


Advance = Callable[[int], None]
Load = Callable[[Advance], Ranker]
"""Loads a model and encodes the documents, telling how many it has encoded since it last told."""


@dataclass(frozen=True)
class Status:
    """How far it is."""

    state: str
    """"reading", "ready", or "absent" where it cannot be used."""
    done: int
    total: int
    reason: str = ""
    """Why it is absent."""


class _StoppedError(Exception):
    pass


class LocalRanking:
    """A Ranker that is there when it has encoded the documents.

    Args:
        load: Runs in a thread of its own, which `start` starts.
        total: Documents.
    """

    def __init__(self, load: Load, total: int) -> None:
        self._load = load
        self._total = total
        self._done = 0
        self._reason = ""
        self._ranker: Ranker | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bi-encoder", daemon=True)

    def start(self) -> None:
        """Begins to encode."""
        self._thread.start()

    def close(self) -> None:
        """Stops between two batches of documents."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def status(self) -> Status:
        """How far it is now."""
        state = "absent" if self._reason else "reading" if self._ranker is None else "ready"
        return Status(state, self._done, self._total, self._reason)

    def rank(self, text: str, top_k: int) -> dict[str, float] | None:
        """The best documents and their scores, best first; None where it is not ready."""
        return None if self._ranker is None else self._ranker.search(text, top_k)

    def _run(self) -> None:
        try:
            self._ranker = self._load(self._advance)
        except _StoppedError:
            pass
        except (
            TridexError,
            ImportError,
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # whatever loading a model raises
            self._reason = str(error)

    def _advance(self, count: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        self._done += count
