"""Callers that hang up: what still waits of theirs is forgotten."""

from __future__ import annotations

import grpc
import kserve
from eventually import eventually
from scraping import scrape
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.client import Client, Document
from tridex.serving.metrics.table import REQUESTS
from tridex.serving.server import TritonServer

FORGOTTEN = (REQUESTS.name, frozenset({("operation", "search"), ("code", "DEADLINE_EXCEEDED")}))


def test_searches_whose_callers_hang_up_are_not_done(client: Client, server: TritonServer) -> None:
    client.upsert("left", [Document("1", "late interaction keeps every token")])
    questions = [[f"question {i} about documents"] for i in range(64)]
    request = kserve.request("search", {"QUERY": questions}, collection="left", timeout=60_000_000)
    before = scrape(server)[1].get(FORGOTTEN, 0)

    def some_are_forgotten() -> bool:
        with grpc.insecure_channel(server.address) as channel:
            infer = rpc.GRPCInferenceServiceStub(channel).ModelInfer
            calls = [infer.future(request, timeout=60) for _ in range(10)]
            calls[0].result()
            for call in calls:
                call.cancel()
        return scrape(server)[1].get(FORGOTTEN, 0) > before

    eventually(some_are_forgotten, within_s=60)
    assert client.search("left", "late interaction")[0].id == "1"
