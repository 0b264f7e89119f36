"""Callers whose answers are known, to run beside whatever else a server is asked for."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from types import TracebackType
from typing import Any

import kserve
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tridex.client import Client, Document
from tridex.protocol import models, parameters

_WAIT_S = 60.0
_TOLERANCE = 2e-3
"""Of scores and embeddings: sums in another order."""

_PLACES = ("harbour", "glacier", "desert", "volcano", "orchard", "library", "bridge", "market", "castle", "island")
_DEEDS = ("repairs", "paints", "remembers", "sells", "photographs", "measures")
_QUESTIONS = ("who paints the glacier", "measuring an orchard", "a castle that is sold", "bridges and repairs")


class GoodCallers:
    """A context manager: inside it `readers` threads ask a collection that nobody changes, and one changes its own.

    `failures` says what was not answered, or not as it should have been.
    """

    def __init__(self, address: str, collection: str, *, readers: int = 2, pause_s: float = 0.01) -> None:
        self.collection = collection
        self.written = f"{collection}-written"
        self.failures: list[str] = []
        self.answered: Counter[str] = Counter()
        self.slowest_s = 0.0
        self._address = address
        self._pause_s = pause_s
        self._stop = threading.Event()
        with Client(address, timeout_s=_WAIT_S) as client:
            for name in (self.collection, self.written):
                client.create_collection(name, codec="float32", fields={"year": "int", "deed": "str"})
            version = client.upsert(self.collection, _documents()).version
        self._requests = {
            name: kserve.request(model.name, inputs, outputs, timeout=int(_WAIT_S * 1e6), **said)
            for name, model, inputs, outputs, said in _requests(self.collection, version)
        }
        quiet = kserve.channel(address)
        self._expected = {name: self._ask(quiet, name, request) for name, request in self._requests.items()}
        assert not self.failures, self.failures
        self._threads = [threading.Thread(target=self._read, args=(i,)) for i in range(readers)]
        self._threads.append(threading.Thread(target=self._write))

    def __enter__(self) -> GoodCallers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def ask_all(self) -> None:
        """Asks for everything once more."""
        channel = kserve.channel(self._address)
        for name in self._requests:
            self._compare(channel, name)

    def _ask(self, channel: Any, name: str, request: pb.ModelInferRequest) -> dict[str, Any]:
        answer = kserve.infer(channel, request, _WAIT_S)
        self.slowest_s = max(self.slowest_s, answer.seconds)
        self.answered[name] += 1
        if answer.status != "OK":
            self.failures.append(f"{name}: {answer}")
        return answer.tensors

    def _compare(self, channel: Any, name: str) -> None:
        found = self._ask(channel, name, self._requests[name])
        wrong = _differences(found, self._expected[name]) if found else None
        if wrong:
            self.failures.append(f"{name}: expected and got {wrong}")

    def _read(self, first: int) -> None:
        channel = kserve.channel(self._address)
        for name in itertools.islice(itertools.cycle(self._requests), 3 * first, None):
            if self._stop.wait(self._pause_s):
                return
            self._compare(channel, name)

    def _write(self) -> None:
        """Writes, looks for what it wrote, deletes."""
        channel = kserve.channel(self._address)
        there: dict[str, str] = {}
        for turn in itertools.count():
            if self._stop.wait(5 * self._pause_s):
                return
            key = f"w{turn % 7}"
            if turn % 5 == 4:
                there.pop(key, None)
                said = self._ask(channel, "delete", self._ingest("delete", {models.DOCUMENT_ID.name: [[key]]}))
            else:
                there[key] = f"turn {turn} wrote this"
                document = {models.DOCUMENT_ID.name: [[key]], models.DOCUMENT_TEXT.name: [[there[key]]]}
                said = self._ask(channel, "upsert", self._ingest("upsert", document))
            if said:
                self._look(channel, there, int(said[models.VERSION.name].max()))

    def _look(self, channel: Any, there: dict[str, str], version: int) -> None:
        request = kserve.request(
            models.SEARCH.name,
            {models.QUERY.name: [["who wrote this"]]},
            [models.IDS.name, models.TEXTS.name],
            timeout=int(_WAIT_S * 1e6),
            **{parameters.COLLECTION: self.written, parameters.TOP_K: 50, parameters.LAST_WRITE: version},
        )
        found = self._ask(channel, "search after a write", request)
        if found:
            (ids,), (texts,) = found[models.IDS.name], found[models.TEXTS.name]
            seen = {key.decode(): text.decode() for key, text in zip(ids, texts, strict=True) if key}
            if seen != there:
                self.failures.append(f"search after a write: expected {there}, got {seen}")

    def _ingest(self, operation: str, inputs: kserve.Inputs) -> pb.ModelInferRequest:
        said = {parameters.COLLECTION: self.written, parameters.OPERATION: operation}
        return kserve.request(models.INGEST.name, inputs, timeout=int(_WAIT_S * 1e6), **said)


def _documents() -> list[Document]:
    pairs = itertools.product(_PLACES, _DEEDS)
    return [
        Document(f"d{i:02}", f"Somebody {deed} the {place} in {1990 + i}.", {"year": 1990 + i, "deed": deed})
        for i, (place, deed) in enumerate(pairs)
    ]


def _requests(collection: str, version: int) -> list[tuple[str, Any, kserve.Inputs, list[str], dict[str, Any]]]:
    """Name, model, inputs, outputs and parameters of one request of each kind."""
    texts = [[question] for question in _QUESTIONS]
    hits = [tensor.name for tensor in models.HITS]
    old = json.dumps({"field": "year", "operator": "<", "value": 2010})
    embeddings = np.random.default_rng(0).standard_normal((1, 8, 128)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
    search: dict[str, Any] = {parameters.COLLECTION: collection, parameters.TOP_K: 3, parameters.MIN_VERSION: version}
    ways: dict[str, dict[str, Any]] = {
        "search": {},
        "search by BM25": {parameters.MODE: "bm25"},
        "hybrid search": {parameters.MODE: "hybrid"},
        "reranking search": {parameters.MODE: "rerank"},
        "search by candidates": {parameters.EXACT: False},
        "filtered search": {parameters.FILTERS: old},
    }
    about = {parameters.COLLECTION: collection}
    made = [(name, models.SEARCH, {models.QUERY.name: texts}, hits, {**search, **way}) for name, way in ways.items()]
    made += [
        ("search by embeddings", models.MAXSIM, {models.QUERY_EMBEDDINGS.name: embeddings}, hits, search),
        ("encoded queries", models.ENCODE_QUERY, {models.QUERY.name: texts}, [], {}),
        ("encoded document", models.ENCODE_DOCUMENT, {models.DOCUMENT.name: texts[:1]}, [], {}),
        ("rerank", models.RERANK, {models.QUERY.name: texts[:1], models.RERANK_TEXTS.name: [_QUESTIONS]}, [], {}),
    ]
    for name, ids, said in (
        ("get", [["d03", "none", "d07"]], {parameters.OPERATION: "get"}),
        ("count", [[]], {parameters.OPERATION: "count"}),
        ("filtered count", [[]], {parameters.OPERATION: "count", parameters.FILTERS: old}),
        ("scroll", [["d05"]], {parameters.OPERATION: "scroll", parameters.PAGE: 5}),
    ):
        made.append((name, models.CATALOG, {models.CATALOG_IDS.name: ids}, [], {**about, **said}))
    return made


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The tensors that are not as expected: what was, and what there is."""

    def same(one: Any, other: Any) -> bool:
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.dtype == np.float32:
            return one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=_TOLERANCE)
        return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else one == other

    pairs = {name: (expected.get(name), found.get(name)) for name in sorted(expected.keys() | found.keys())}
    return {name: pair for name, pair in pairs.items() if not same(*pair)}
