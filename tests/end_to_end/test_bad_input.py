"""Every bad request gets its own clear error, by status code and with the field's name; its batch mates get answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from tridex.client import Client, InvalidArgument, NotFound
from tridex.protocol import limits
from tridex.serving.server import TritonServer

COLLECTION = "bad-input"
DIM = 128


@pytest.fixture(scope="module")
def raw(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with Client(server.address, timeout_s=60) as client:
        client.upsert(COLLECTION, [{"id": f"d{i}", "text": f"document number {i}"} for i in range(5)])
    client = triton.InferenceServerClient(server.address)
    yield client
    client.close()


def tensor(name: str, value: Any, dtype: str) -> triton.InferInput:
    array = np.array(value, object) if dtype == "BYTES" else np.asarray(value)
    given = triton.InferInput(name, list(array.shape), dtype)
    given.set_data_from_numpy(array)
    return given


def text(name: str, *values: bytes) -> triton.InferInput:
    return tensor(name, [[value] for value in values], "BYTES")


def embeddings(array: np.ndarray) -> triton.InferInput:
    return tensor("QUERY_EMBEDDINGS", array.astype(np.float32), "FP32")


SEARCH = {"collection": COLLECTION, "top_k": 3}
UPSERT = {"collection": COLLECTION, "operation": "upsert"}
GONE = {"collection": "gone"}
INVALID, NOT_FOUND = "StatusCode.INVALID_ARGUMENT", "StatusCode.NOT_FOUND"


def query(value: bytes) -> list[triton.InferInput]:
    return [text("QUERY", value)]


def document(value: bytes, metadata: bytes = b"{}") -> list[triton.InferInput]:
    return [text("ID", b"x"), text("TEXT", value), text("METADATA", metadata)]


Case = tuple[str, list[triton.InferInput], dict[str, Any], str, str]
"""Model, inputs, parameters; status code and words of the refusal."""

CASES: dict[str, Case] = {
    "empty text": ("search", query(b""), SEARCH, INVALID, "QUERY.*''.*not empty"),
    "blank text": ("search", query(b" \n\t"), SEARCH, INVALID, "QUERY.*not empty"),
    "1 MB text": ("search", query(b"a" * 2**20), SEARCH, INVALID, "QUERY.*1048576 bytes.*262144"),
    "invalid UTF-8": ("search", query(b"caf\xe9 au lait"), SEARCH, INVALID, "QUERY.*not valid UTF-8"),
    "invalid UTF-8 document": ("encode_document", [text("DOCUMENT", b"\xff")], {}, INVALID, "DOCUMENT.*UTF-8"),
    "empty document": ("ingest", document(b""), UPSERT, INVALID, "TEXT.*not empty"),
    "1 MB document": ("ingest", document(b"a" * 2**20), UPSERT, INVALID, "TEXT.*1048576 bytes"),
    "top_k 0": ("search", query(b"q"), {**SEARCH, "top_k": 0}, INVALID, "top_k is 0; expected.*1 to"),
    "top_k -1": ("search", query(b"q"), {**SEARCH, "top_k": -1}, INVALID, "top_k is -1"),
    "top_k 10^9": ("search", query(b"q"), {**SEARCH, "top_k": 10**9}, INVALID, "top_k is 1000000000"),
    "top_k text": ("search", query(b"q"), {**SEARCH, "top_k": "ten"}, INVALID, "top_k is 'ten'"),
    "no collection": ("search", query(b"q"), {}, INVALID, "parameter collection is None"),
    "path as collection": ("search", query(b"q"), {"collection": "../etc"}, INVALID, r"collection is '\.\./etc'"),
    "unknown collection": ("search", query(b"q"), GONE, NOT_FOUND, "'gone' does not exist"),
    "count of unknown": (
        *("catalog", [tensor("IDS", [[]], "BYTES")], {"operation": "count", **GONE}),
        *(NOT_FOUND, "'gone' does not exist"),
    ),
    "delete of unknown": ("ingest", [text("ID", b"x")], {"operation": "delete", **GONE}, NOT_FOUND, "'gone'"),
    "future version": ("search", query(b"q"), {**SEARCH, "min_version": 10**6}, INVALID, "min_version is 1000000"),
    "wrong dtype": ("search", [tensor("QUERY", [[1.0]], "FP64")], SEARCH, INVALID, "data-type"),
    "wrong shape": ("search", [tensor("QUERY", [[b"a", b"b"]], "BYTES")], SEARCH, INVALID, "shape"),
    "wrong dim": ("maxsim", [embeddings(np.ones((1, 4, 96)))], SEARCH, INVALID, r"\[1, 4, 96\].*128"),
    "no tokens": ("maxsim", [embeddings(np.ones((1, 0, DIM)))], SEARCH, INVALID, "QUERY_EMBEDDINGS"),
    "NaN": ("maxsim", [embeddings(np.full((1, 4, DIM), np.nan))], SEARCH, INVALID, "NaN or infinity"),
    "infinity": ("maxsim", [embeddings(np.full((1, 4, DIM), np.inf))], SEARCH, INVALID, "NaN or infinity"),
    "mask of another length": (
        *("maxsim", [embeddings(np.ones((1, 4, DIM))), tensor("QUERY_MASK", np.ones((1, 3), np.int64), "INT64")]),
        *(SEARCH, INVALID, "QUERY_MASK.*expected"),
    ),
    "metadata not JSON": ("ingest", document(b"t", b"{"), UPSERT, INVALID, "METADATA.*JSON"),
    "metadata not an object": ("ingest", document(b"t", b"[1]"), UPSERT, INVALID, "JSON object"),
    "id twice": ("ingest", [text("ID", b"x", b"x"), text("TEXT", b"a", b"b")], UPSERT, INVALID, "'x' twice"),
    "empty id": ("ingest", [text("ID", b""), text("TEXT", b"t")], UPSERT, INVALID, "ID holds ''"),
    "no text": ("ingest", [text("ID", b"x")], UPSERT, INVALID, "TEXT is missing"),
    "unknown codec": ("ingest", document(b"t"), {**UPSERT, "codec": "int3"}, INVALID, "codec is 'int3'"),
    "unknown operation": ("ingest", document(b"t"), {**UPSERT, "operation": "drop"}, INVALID, "operation is 'drop'"),
    "empty rerank text": (
        *("rerank", [text("QUERY", b"q"), tensor("DOCUMENTS", [[b"a", b""]], "BYTES")], {}),
        *(INVALID, "DOCUMENTS.*not empty"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_request_is_refused_by_code_and_field(raw: triton.InferenceServerClient, name: str) -> None:
    model, inputs, parameters, code, words = CASES[name]
    with pytest.raises(InferenceServerException, match=words) as caught:
        raw.infer(model, inputs, parameters=parameters)
    assert caught.value.status() == code


def test_a_bad_request_leaves_its_batch_mates_alone(raw: triton.InferenceServerClient) -> None:
    good, bad = np.ones((1, 4, DIM), np.float32), np.full((1, 4, DIM), np.nan, np.float32)
    outcomes: list[Any] = [None] * 48
    threads = [threading.Thread(target=_ask, args=(raw, bad if i % 3 else good, outcomes, i)) for i in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, outcome in enumerate(outcomes):
        if i % 3:
            assert isinstance(outcome, InferenceServerException) and "NaN" in str(outcome)
        else:
            assert outcome.shape == (1, 3)


def _ask(raw: triton.InferenceServerClient, queries: np.ndarray, outcomes: list[Any], i: int) -> None:
    try:
        outcomes[i] = raw.infer("maxsim", [embeddings(queries)], parameters=SEARCH).as_numpy("IDS")
    except InferenceServerException as error:
        outcomes[i] = error


@pytest.mark.usefixtures("raw")
def test_nothing_was_written_by_what_was_refused(client: Client) -> None:
    assert client.count(COLLECTION) == 5
    assert client.get(COLLECTION, ["x"]) == [None]


def test_the_client_raises_typed_errors(client: Client) -> None:
    with pytest.raises(NotFound, match="'gone' does not exist"):
        client.search("gone", "anything")
    with pytest.raises(InvalidArgument, match="top_k"):
        client.search(COLLECTION, "anything", top_k=limits.MAX_TOP_K + 1)
    with pytest.raises(InvalidArgument, match=r"dim|shape"):
        client.search(COLLECTION, np.ones((3, 7), np.float32))
