"""Every bad request gets its own clear error, by status code and field; the others of its batch are answered."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import kserve
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton
from control_calls import ask
from fuzz_requests import REACHABLE, SERVED, Served
from good_callers import GoodCallers
from tritonclient.utils import InferenceServerException

from tridex.client import Client, InvalidArgument, NotFound
from tridex.protocol import limits, models
from tridex.protocol.tensors import DType
from tridex.serving.server import TritonServer, guard

GUARD = Path(guard.__file__).with_name("guard.c")
RAW = {"Inference-Header-Content-Length": "0"}

COLLECTION = "bad-input"
DIM = 128


@pytest.fixture(scope="module")
def raw(server: TritonServer) -> Iterator[triton.InferenceServerClient]:
    with Client(server.address, timeout_s=60) as client:
        client.create_collection(COLLECTION, fields={"year": "int", "kind": "str"})
        documents = [{"id": f"d{i}", "text": f"document number {i}", "metadata": {"year": i}} for i in range(5)]
        client.upsert(COLLECTION, documents)
        client.set_alias("bad-alias", COLLECTION)
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
EXISTS = "StatusCode.ALREADY_EXISTS"


def query(value: bytes) -> list[triton.InferInput]:
    return [text("QUERY", value)]


def document(value: bytes, metadata: bytes = b"{}") -> list[triton.InferInput]:
    return [text("ID", b"x"), text("TEXT", value), text("METADATA", metadata)]


NO_IDS = tensor("ID", np.empty((1, 0), object), "BYTES")
NO_ROWS = tensor("IDS", np.empty((1, 0), object), "BYTES")
DELETE = {"collection": COLLECTION, "operation": "delete"}


def where(field: str = "year", operator: str = "==", value: str = "2020") -> str:
    return f'{{"field": "{field}", "operator": "{operator}", "value": {value}}}'


NESTED = '{"operator": "NOT", "conditions": [' * 10_000 + where() + "]}" * 10_000

FILTERS = {
    "filter that is no JSON": ("year = 2020", "filters is 'year = 2020'; expected JSON"),
    "empty filter": ("", "filters is ''; expected JSON"),
    "null filter": ("null", "filters is null; expected an object"),
    "filter of a number too large for JSON": (where(value="NaN"), "NaN is no JSON"),
    "filter cut off": (where()[:-1], "expected JSON"),
    "filter that is a list": (f"[{where()}]", "expected an object of field, operator and value"),
    "10,000 nested levels": (NESTED, "filters (is|nests)"),
    "10,000 nested lists": ("[" * 10_000 + "]" * 10_000, "filters is"),
    "a filter of 300 kB": (where("kind", "in", "[" + '"x", ' * 60_000 + '"x"]'), "at most 262144 bytes"),
    "17 nested levels": ('{"operator": "NOT", "conditions": [' * 16 + where() + "]}" * 16, "deeper than 16 levels"),
    "undeclared field": (where("colour"), "filters.field is 'colour'; expected a field of .*: year, kind"),
    "injection by field": (where("1=1; DROP TABLE x; --"), "filters.field is '1=1; DROP TABLE x; --'"),
    "the store's own column": (where("field_0"), "filters.field is 'field_0'"),
    "injection by operator": (where(operator="= 1 OR 1"), "filters.operator is '= 1 OR 1'; expected one of: =="),
    "injection by value": (
        where(value='"0 OR 1=1"'),
        "filters.value is '0 OR 1=1'; expected an integer.*'year' is int",
    ),
    "value of another type": (where("kind", value="7"), "filters.value is 7; expected a string.*'kind' is str"),
    "order of strings": (where("kind", "<", '"a"'), "filters.operator is '<' on field 'kind'"),
    "half a character": (where("kind", value='"\\ud800"'), "filters.value is .*valid Unicode"),
    "an integer too large": (where(value="9" * 5000), "filters is"),
    "no list": (where(operator="in"), "filters.value is 2020; expected a list"),
    "no conditions": ('{"operator": "AND", "conditions": []}', r"filters.conditions is \[\]"),
}

Case = tuple[str, list[triton.InferInput], dict[str, Any], str, str]
"""Model, inputs, parameters; status code and words of the refusal."""

CASES: dict[str, Case] = {
    "empty text": ("search", query(b""), SEARCH, INVALID, "QUERY.*''.*not empty"),
    "blank text": ("search", query(b" \n\t"), SEARCH, INVALID, "QUERY.*not empty"),
    "1 MB text": ("search", query(b"a" * 2**20), SEARCH, INVALID, "QUERY.*1048576 bytes.*262144"),
    "invalid UTF-8": ("search", query(b"caf\xe9 au lait"), SEARCH, INVALID, "QUERY.*not valid UTF-8"),
    "empty query to encode": ("encode_query", query(b""), {}, INVALID, "input QUERY holds ''"),
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
    "id of 100,000 characters": (
        *("ingest", [text("ID", b"x" * 100_000), text("TEXT", b"t")], UPSERT),
        *(INVALID, "ID.*100000 bytes.*1024"),
    ),
    "get an id of 100,000 characters": (
        *("catalog", [tensor("IDS", [[b"x" * 100_000]], "BYTES")], {**SEARCH, "operation": "get"}),
        *(INVALID, "IDS.*100000 bytes.*1024"),
    ),
    "delete an empty id": ("ingest", [text("ID", b"")], DELETE, INVALID, "ID holds ''"),
    "invalid UTF-8 in an id": ("ingest", [text("ID", b"\xff"), text("TEXT", b"t")], UPSERT, INVALID, "ID.*valid UTF-8"),
    "invalid UTF-8 in a text": ("ingest", document(b"caf\xe9"), UPSERT, INVALID, "TEXT.*valid UTF-8"),
    "invalid UTF-8 in metadata": ("ingest", document(b"t", b'{"a": "\xff"}'), UPSERT, INVALID, "METADATA"),
    "no text": ("ingest", [text("ID", b"x")], UPSERT, INVALID, "TEXT is missing"),
    "codec that needs training": (
        "ingest",
        document(b"t"),
        {**UPSERT, "codec": "residual2"},
        INVALID,
        "codec is 'residual2', whose centroids must be trained",
    ),
    "unknown codec": ("ingest", document(b"t"), {**UPSERT, "codec": "int3"}, INVALID, "codec is 'int3'"),
    "unknown operation": ("ingest", document(b"t"), {**UPSERT, "operation": "wipe"}, INVALID, "operation is 'wipe'"),
    "drop with a document": (
        "ingest",
        document(b"t"),
        {**UPSERT, "operation": "drop"},
        INVALID,
        "ID holds ids beside operation drop",
    ),
    "metadata of NaN": ("ingest", document(b"t", b'{"a": NaN}'), UPSERT, INVALID, "METADATA.*JSON object"),
    "metadata of half a character": (
        *("ingest", document(b"t", b'{"a": "\\ud800"}'), UPSERT),
        *(INVALID, "METADATA.*JSON object"),
    ),
    "mistyped metadata": (
        *("ingest", document(b"t", b'{"year": "2020"}'), UPSERT),
        *(INVALID, "metadata field 'year' of document 'x' is '2020'; expected an integer.*as the field is int"),
    ),
    "two ids in one row": (
        *("ingest", [tensor("ID", [[b"x", b"y"]], "BYTES"), text("TEXT", b"t")], UPSERT),
        *(INVALID, r"ID has shape \[1, 2\]; expected \[documents, 1\]"),
    ),
    "upsert of nothing": ("ingest", [NO_IDS], UPSERT, INVALID, "ID has shape"),
    "delete of nothing": ("ingest", [NO_IDS], DELETE, INVALID, "ID has shape"),
    "delete by ids and filters": (
        *("ingest", [text("ID", b"d1")], {**DELETE, "filters": where()}),
        *(INVALID, "ID holds ids beside operation delete by filters"),
    ),
    "delete by filters that are not": ("ingest", [NO_IDS], {**DELETE, "filters": "{}"}, INVALID, "filters is {}"),
    "delete by filters from unknown": (
        *("ingest", [NO_IDS], {**DELETE, **GONE, "filters": where()}),
        *(NOT_FOUND, "'gone' does not exist"),
    ),
    "create what is there": ("ingest", [NO_IDS], {**SEARCH, "operation": "create"}, EXISTS, "exists already"),
    "create under an alias": (
        *("ingest", [NO_IDS], {"collection": "bad-alias", "operation": "create"}),
        *(EXISTS, f"'bad-alias' is an alias of collection '{COLLECTION}'"),
    ),
    "create with unknown type": (
        *("ingest", [NO_IDS], {**GONE, "operation": "create", "fields": '{"year": "integer"}'}),
        *(INVALID, r"fields\['year'\] is 'integer'; expected one of: str, int"),
    ),
    "create with fields that are not": (
        *("ingest", [NO_IDS], {**GONE, "operation": "create", "fields": '["year"]'}),
        *(INVALID, r"fields is \['year'\]; expected an object"),
    ),
    "create by path": ("ingest", [NO_IDS], {"collection": "../x", "operation": "create"}, INVALID, "collection is"),
    "drop of unknown": ("ingest", [NO_IDS], {**GONE, "operation": "drop"}, NOT_FOUND, "'gone' does not exist"),
    "drop under an alias": ("ingest", [NO_IDS], {**SEARCH, "operation": "drop"}, INVALID, "alias 'bad-alias' leads to"),
    "alias to nowhere": (
        *("ingest", [NO_IDS], {**GONE, "operation": "set_alias", "alias": "bad-alias"}),
        *(NOT_FOUND, "'gone' does not exist"),
    ),
    "alias over a collection": (
        *("ingest", [NO_IDS], {**SEARCH, "operation": "set_alias", "alias": COLLECTION}),
        *(EXISTS, f"'{COLLECTION}' exists already"),
    ),
    "alias by path": (
        *("ingest", [NO_IDS], {**SEARCH, "operation": "set_alias", "alias": "../x"}),
        *(INVALID, r"alias is '\.\./x'; expected a name"),
    ),
    "page too large": (
        *("catalog", [NO_ROWS], {**SEARCH, "operation": "scroll", "page": 257}),
        *(INVALID, "page is 257; expected an integer from 1 to 256"),
    ),
    "scroll after two": (
        *("catalog", [tensor("IDS", [[b"a", b"b"]], "BYTES")], {**SEARCH, "operation": "scroll"}),
        *(INVALID, "IDS holds 2 ids"),
    ),
    "negative last write": ("search", query(b"q"), {**SEARCH, "last_write": -1}, INVALID, "last_write is -1"),
    **{
        name: ("search", query(b"q"), {**SEARCH, "filters": given}, INVALID, words)
        for name, (given, words) in FILTERS.items()
    },
    "count by a filter that is none": (
        *("catalog", [NO_ROWS], {**SEARCH, "operation": "count", "filters": "7"}),
        *(INVALID, "filters is 7; expected an object"),
    ),
    "inputs of two kinds of request": (
        *("search", [text("DOCUMENT", b"a"), text("QUERY_TO_RERANK", b"a")], {}),
        *(INVALID, "inputs DOCUMENT, QUERY_TO_RERANK are given together"),
    ),
    "two queries to rerank by": (
        *("search", [text("QUERY_TO_RERANK", b"a", b"b"), tensor("DOCUMENTS", [[b"a"], [b"b"]], "BYTES")], {}),
        *(INVALID, "QUERY holds 2 queries to rerank by; expected one"),
    ),
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


def test_a_bad_request_leaves_the_others_of_its_batch_alone(raw: triton.InferenceServerClient) -> None:
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


def right_request(model: Served) -> Any:
    """A request that the model answers."""
    one = [["a question"]]
    embedded = np.full((1, 2, DIM), 0.1, np.float32)
    by_model: dict[str, tuple[kserve.Inputs, dict[str, Any]]] = {
        "search": ({"QUERY": one}, SEARCH),
        "maxsim": ({"QUERY_EMBEDDINGS": embedded}, SEARCH),
        "encode_query": ({"QUERY": one}, {}),
        "encode_document": ({"DOCUMENT": one}, {}),
        "rerank": ({"QUERY": one, "DOCUMENTS": one}, {}),
        "ingest": ({"ID": [["d0"]], "TEXT": [["document number 0"]]}, UPSERT),
        "catalog": ({"IDS": [["d0"]]}, {"collection": COLLECTION, "operation": "get"}),
    }
    inputs, parameters = by_model[model.name]
    return kserve.request(model.name, inputs, **parameters)


@pytest.fixture
def channel(server: TritonServer) -> Iterator[grpc.Channel]:
    with kserve.channel(server.address) as connection:
        yield connection


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("model", REACHABLE, ids=lambda model: model.name)
def test_classes_of_any_output_are_harmless(server: TritonServer, channel: grpc.Channel, model: Served) -> None:
    pid = server.pid
    requests = [(right_request(model), output.name) for output in model.outputs for _ in range(3)]
    if model is models.SEARCH:
        # Nothing is found by these words.
        nothing = kserve.request("search", {"QUERY": [["volcano"]]}, **SEARCH, mode="bm25")
        requests += [(nothing, output.name) for output in models.HITS for _ in range(3)]
    for (request, name), count in zip(requests, (1, 1000, 2**62) * len(requests), strict=False):
        del request.outputs[:]
        kserve.set_parameter(request.outputs.add(name=name).parameters["classification"], count)
        answer = kserve.infer(channel, request, 20)
        assert answer.status in ("OK", "INVALID_ARGUMENT", "INTERNAL", "UNSUPPORTED", "UNIMPLEMENTED"), (name, answer)
        assert answer.status == "OK" or "classification" in answer.message or "class" in answer.message, (name, answer)
    assert kserve.infer(channel, right_request(model), 20).status == "OK" and server.pid == pid


HARMLESS = {"Delete", "Id", "Cancel", "AddRequestedOutput"}
"""Calls about a request that give a model nothing; so do those whose names begin with Set."""


def test_the_guard_stands_before_every_call_that_gives_a_model_something(server: TritonServer) -> None:
    """A call that it does not know would be a way round it."""
    executable = Path(psutil.Process(server.pid).exe()).read_bytes()
    called = set(re.findall(rb"\0TRITONSERVER_InferenceRequest(\w+)\0", executable))
    guarded = set(re.findall(r"^Error\* TRITONSERVER_InferenceRequest(\w+)\(", GUARD.read_text(), re.MULTILINE))
    assert {"New", "AddInput", "AddRawInput", "AppendInputData"} <= guarded
    giving = {name.decode() for name in called} - HARMLESS
    assert {name for name in giving - guarded if not name.startswith("Set")} == set()


@pytest.mark.parametrize(
    ("model", "body"),
    [("encode_query", "a text"), ("encode_query", "a" * (40 << 20)), ("catalog", "x"), ("maxsim", "")],
)
def test_raw_bytes_over_http_are_refused(server: TritonServer, model: str, body: str) -> None:
    """Triton server finds out by itself what they are, behind the guard's looks at inputs."""
    address = (server.host, server.ports["http"])
    status, said = ask(address, "POST", f"/v2/models/{model}/infer", body, headers=RAW)
    assert status == 400 and "a request of raw bytes alone is not taken" in said, said
    # What has JSON in front goes on as before.
    text = json.dumps({"inputs": [{"name": "QUERY", "shape": [1, 1], "datatype": "BYTES", "data": ["a text"]}]})
    assert ask(address, "POST", "/v2/models/encode_query/infer", text)[0] == 200


def test_an_internal_model_serves_no_callers(channel: grpc.Channel) -> None:
    for model in (model for model in SERVED if model not in REACHABLE):
        inputs = {tensor.name: np.ones((1, 16), np.int64) for tensor in model.inputs}
        answer = kserve.infer(channel, kserve.request(model.name, inputs))
        assert (answer.status, answer.message) == ("NOT_FOUND", f"model '{model.name}' serves other models only")


@pytest.mark.usefixtures("raw")
@pytest.mark.parametrize("model", REACHABLE, ids=lambda model: model.name)
@pytest.mark.parametrize("rows", [0, 2**32, 2**62])
def test_no_rows_are_refused_at_once(channel: grpc.Channel, model: Served, rows: int) -> None:
    """2**32 of them, of no length, are none to Triton server."""
    for empty in model.inputs:
        request = kserve.request(model.name, {})
        for tensor in model.inputs:
            row = kserve.strings(["a"]) if tensor.dtype is DType.STRING else bytes(8)
            shape = [1, *map(abs, tensor.shape)]
            if tensor is empty:
                kserve.add_input(request, tensor.name, tensor.dtype.value, [rows] + [0] * len(tensor.shape), b"")
            elif not tensor.optional:
                kserve.add_input(request, tensor.name, tensor.dtype.value, shape, row)
        answer = kserve.infer(channel, request, 20)
        assert answer.status == "INVALID_ARGUMENT", (empty, answer)
        assert f"input {empty.name} has {rows} in dimension 0" in answer.message, (empty, answer)


LIES = {
    "longer than it is": b"\x09\0\0\0abc",
    "half a length": b"\x01\0",
    "the longest": b"\xff\xff\xff\xff",
    "a second one cut off": b"\x01\0\0\0a\x05\0\0\0b",
    "nothing": b"",
}


def test_malformed_strings_harm_no_neighbour(server: TritonServer, channel: grpc.Channel) -> None:
    """Good requests of the same models, in the same batches."""
    good = GoodCallers(server.address, "malformed", readers=4, pause_s=0.0)
    with good:
        for _ in range(5):
            for model in REACHABLE:
                for tensor in model.inputs:
                    if tensor.dtype is DType.STRING:
                        refuse_lies(channel, model, tensor.name)
    assert good.failures == [] and good.answered.total() > 30


def refuse_lies(channel: grpc.Channel, model: Served, name: str) -> None:
    for words, raw in LIES.items():
        request = right_request(model)
        if name not in {tensor.name for tensor in request.inputs}:
            kserve.add_input(request, name, "BYTES", (1, 1), b"")
        for place, tensor in enumerate(request.inputs):
            if tensor.name == name:
                request.raw_input_contents[place] = raw
        answer = kserve.infer(channel, request, 20)
        assert answer.status == "INVALID_ARGUMENT" and name in answer.message, (model.name, words, answer)


@pytest.mark.usefixtures("raw")
def test_nothing_was_written_by_what_was_refused(client: Client) -> None:
    assert client.count(COLLECTION) == 5
    assert client.get(COLLECTION, ["x"]) == [None]
    assert client.aliases()["bad-alias"] == COLLECTION
    assert "gone" not in {info.name for info in client.collections()}


def test_the_client_raises_typed_errors(client: Client) -> None:
    with pytest.raises(NotFound, match="'gone' does not exist"):
        client.search("gone", "anything")
    with pytest.raises(InvalidArgument, match="top_k"):
        client.search(COLLECTION, "anything", top_k=limits.MAX_TOP_K + 1)
    with pytest.raises(InvalidArgument, match=r"dim|shape"):
        client.search(COLLECTION, np.ones((3, 7), np.float32))
