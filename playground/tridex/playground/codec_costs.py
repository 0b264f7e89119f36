"""What each codec costs on the documents at hand: memory, and how far its first hits are those of float32.

The collection is stored as float32, so each codec's is made of it without encoding anything, asked, and dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from tridex.building import Progress, requantize
from tridex.client import Client, CodecName, Embeddings, NotFound
from tridex.common import TridexError
from tridex.index import Store
from tridex.kernels import Codec
from tridex.protocol.limits import COLLECTION_NAME

EXACT: CodecName = "float32"
CODECS: tuple[CodecName, ...] = get_args(CodecName)
_TOP_K = 10
_LOADING_TIMEOUT_S = 120.0
"""Of a collection's first searches, which wait until it is on the device and its codec is compiled."""


@dataclass(frozen=True)
class CodecCost:
    """One codec's."""

    codec: CodecName
    device_bytes: int
    bytes_per_document: float
    agreement: float
    """The share of float32's first 10 hits that are among this codec's, in the mean over the queries."""


@dataclass(frozen=True)
class CostReport:
    """How far the measurement is, and what is known."""

    state: str = "idle"
    """"idle", "running", "done" or "failed"."""
    step: str = ""
    """The codec that is being measured."""
    total: int = len(CODECS)
    queries: int = 0
    costs: tuple[CodecCost, ...] = ()
    error: str = ""


Measure = Callable[[Sequence[str]], Iterator[CodecCost]]
"""From queries to the cost of each of CODECS, in their order."""


def served_costs(address: str, collection: str, store: Path, repository: Path) -> Measure:
    """Measures on a server that serves `store` and `repository`; `collection` is stored as float32."""

    def measure(queries: Sequence[str]) -> Iterator[CodecCost]:
        with Client(address, timeout_s=_LOADING_TIMEOUT_S) as client:
            embeddings = client.encode_query(queries)
            expected = _first_hits(client, collection, embeddings)
            for codec in CODECS:
                with _in_codec(client, collection, codec, store, repository) as name:
                    found = _first_hits(client, name, embeddings)
                    info = client.describe_collection(name)
                    yield CodecCost(
                        codec, info.device_bytes, info.device_bytes / info.count, _agreement(expected, found)
                    )

    return measure


class CodecCosts:
    """A measurement in a thread of its own, and how far it is."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self.report = CostReport()

    def start(self, queries: Sequence[str]) -> None:
        """Begins to measure with these queries, unless it is measuring."""
        with self._lock:
            if self.report.state != "running":
                self.report = CostReport("running", CODECS[0], queries=len(queries))
                self._thread = threading.Thread(target=self._run, args=(queries,), name="codec-costs", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stops between two codecs."""
        self._stopped = True
        if self._thread is not None:
            self._thread.join()

    def _run(self, queries: Sequence[str]) -> None:
        try:
            for cost in self._measure(queries):
                costs = (*self.report.costs, cost)
                self.report = replace(self.report, costs=costs, step=CODECS[len(costs) % len(CODECS)])
                if self._stopped:
                    break
            self.report = replace(self.report, state="done", step="")
        except (TridexError, OSError) as error:
            self.report = replace(self.report, state="failed", step="", error=str(error))


@contextmanager
def _in_codec(client: Client, collection: str, codec: CodecName, store: Path, repository: Path) -> Iterator[str]:
    """The name of the collection in that codec, which is there until the end; float32 is the collection itself."""
    if codec == EXACT:
        yield collection
        return
    name = f"{collection}-{codec}"
    if not COLLECTION_NAME.fullmatch(name):
        raise TridexError(f"{name!r} cannot name a collection")
    collections = Store(store)
    with suppress(NotFound):  # of a measurement that was killed
        client.drop_collection(name)
    collections.discard_build(name)
    requantize(collections, collection, name, Codec(codec), repository=repository, progress=Progress(quiet=True))
    try:
        yield name
    finally:
        client.drop_collection(name)


def _first_hits(client: Client, collection: str, queries: Sequence[Embeddings]) -> list[set[str]]:
    results = client.search_batch(collection, queries, top_k=_TOP_K, with_text=False, with_metadata=False)
    return [{hit.id for hit in result} for result in results]


def _agreement(expected: Sequence[set[str]], found: Sequence[set[str]]) -> float:
    shares = [len(both & other) / len(both) for both, other in zip(expected, found, strict=True) if both]
    return sum(shares) / len(shares) if shares else 1.0
