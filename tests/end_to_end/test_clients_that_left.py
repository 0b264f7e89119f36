"""Clients that hang up: what still waits of theirs is forgotten."""

from __future__ import annotations

import grpc
import kserve
import numpy as np
import pytest
from eventually import eventually
from scraping import scrape
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.client import Client, Document
from tridex.serving.cancelled_calls import PARAMETER
from tridex.serving.metrics.table import REQUESTS
from tridex.serving.server import TritonServer

COLLECTION = "left"
QUESTIONS = [[f"question {i} about documents"] for i in range(64)]
TEXTS = [f"document {i} about questions, and some more words for it" for i in range(64)]
EMBEDDINGS = np.ones((1, 8, 128), np.float32)


@pytest.fixture(scope="module", autouse=True)
def collection(server: TritonServer) -> None:
    with Client(server.address, timeout_s=60) as client:
        client.upsert(COLLECTION, [Document("1", "late interaction keeps every token")])


CALLS: dict[str, tuple[str, kserve.Inputs]] = {
    "search": ("search", {"QUERY": QUESTIONS}),
    "encode_query": ("encode_query", {"QUERY": QUESTIONS}),
    "encode_document": ("encode_document", {"DOCUMENT": [[text] for text in TEXTS]}),
    "rerank": ("rerank_texts", {"QUERY": QUESTIONS[:1], "DOCUMENTS": [TEXTS]}),
    "maxsim": ("search", {"QUERY_EMBEDDINGS": EMBEDDINGS, "QUERY_MASK": np.ones(EMBEDDINGS.shape[:2], np.int64)}),
}
"""By model, all but the first ensembles: the operation's label in metrics, and inputs."""


@pytest.mark.parametrize("model", CALLS)
def test_what_clients_hang_up_on_is_not_done(client: Client, server: TritonServer, model: str) -> None:
    operation, inputs = CALLS[model]
    parameters = {"collection": COLLECTION} if operation == "search" else {}
    forgotten = (REQUESTS.name, frozenset({("operation", operation), ("code", "DEADLINE_EXCEEDED")}))
    first = kserve.request("search", {"QUERY": QUESTIONS}, collection=COLLECTION, timeout=60_000_000)
    request = kserve.request(model, inputs, timeout=60_000_000, **parameters)
    before = scrape(server)[1].get(forgotten, 0)

    def some_are_forgotten() -> bool:
        with grpc.insecure_channel(server.address) as channel:
            infer = rpc.GRPCInferenceServiceStub(channel).ModelInfer
            before_them = [infer.future(first, timeout=60) for _ in range(2)]
            calls = [infer.future(request, timeout=60) for _ in range(8)]
            before_them[0].result()
            for call in calls:
                call.cancel()
            before_them[1].result()
        return scrape(server)[1].get(forgotten, 0) > before

    eventually(some_are_forgotten, within_s=60)
    assert client.search(COLLECTION, "late interaction")[0].id == "1"


@pytest.mark.parametrize("number", [7, "7", True, 7.0])
def test_the_number_of_a_call_is_the_servers_own(server: TritonServer, number: int | str | bool | float) -> None:
    with kserve.channel(server.address) as channel:
        sent = kserve.request("search", {"QUERY": QUESTIONS[:1]}, collection=COLLECTION, **{PARAMETER: number})
        answer = kserve.infer(channel, sent)
    assert answer.status == "INVALID_ARGUMENT" and "parameter tridex_call is the server's own" in answer.message
