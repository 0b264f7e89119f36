"""Commits a build's documents on a thread of its own, while the next ones are encoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from tridex.index import Build, Document
from tridex.kernels import TokenEmbeddings


class Committing:
    """One transaction at a time, in the order of `append`. At the end of the block all of them are done."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._last: Future[None] | None = None

    def __enter__(self) -> Committing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        if error is None:
            self._wait()

    def append(self, documents: Sequence[Document], embeddings: Iterable[TokenEmbeddings]) -> None:
        """Makes the documents' rows, and begins their transaction once the one before is done.

        Args and Raises as `Build.append`; also what the transaction before raised.
        """
        rows = self._build.collection.rows_of(documents, embeddings)
        self._wait()
        self._last = self._thread.submit(self._build.append_rows, rows)

    def _wait(self) -> None:
        if self._last:
            self._last.result()
