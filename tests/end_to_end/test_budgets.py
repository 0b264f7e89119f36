"""No request is more work than its limits say, holds others up, or asks for an answer that cannot be sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import kserve
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.client import Client, Document, InvalidArgument, NotFound
from tridex.protocol import limits
from tridex.serving.server import TritonServer

DIM = 128
WIDE = 48
"""Documents of the longest text that there is, which as JSON is three times as long."""
LONGEST = "\U0001f600" * (limits.MAX_TEXT_BYTES // 4)


@pytest.fixture(scope="module")
def wide(server: TritonServer) -> str:
    """A collection whose texts are more than one answer may hold."""
    with Client(server.address, timeout_s=120) as client:
        client.create_collection("wide", long_documents="truncate")
        client.upsert("wide", [Document(f"{i:02}", LONGEST) for i in range(WIDE)], batch_size=16)
    return "wide"


@pytest.fixture
def channel(server: TritonServer) -> Iterator[grpc.Channel]:
    with kserve.channel(server.address) as connection:
        yield connection


def refused(channel: grpc.Channel, model: str, inputs: kserve.Inputs, **parameters: object) -> str:
    """The words of a request's refusal."""
    answer = kserve.infer(channel, kserve.request(model, inputs, **parameters), 60)
    assert answer.status == "INVALID_ARGUMENT", answer
    return answer.message


def test_texts_of_one_request(channel: grpc.Channel) -> None:
    texts = ["a" * limits.MAX_TEXT_BYTES] * (limits.MAX_REQUEST_TEXT_BYTES // limits.MAX_TEXT_BYTES + 1)
    message = refused(channel, "rerank", {"QUERY": [["q"]], "DOCUMENTS": [texts]})
    assert f"DOCUMENTS holds {len(texts) * len(texts[0])} bytes of text; expected at most 16777216" in message


def test_bytes_of_one_input(channel: grpc.Channel) -> None:
    message = refused(channel, "search", {"QUERY": [["a" * limits.MAX_INPUT_BYTES]]})
    assert f"QUERY has {limits.MAX_INPUT_BYTES + 4} bytes or more; expected at most {limits.MAX_INPUT_BYTES}" in message


def test_ids_of_one_request(channel: grpc.Channel, wide: str) -> None:
    ids = [[f"d{i}" for i in range(limits.MAX_IDS + 1)]]
    message = refused(channel, "catalog", {"IDS": ids}, collection=wide, operation="get")
    assert "IDS holds 16385 ids; expected at most 16384" in message
    embeddings = np.ones((1, 1, DIM), np.float32)
    for model in ("maxsim", "search"):
        message = refused(channel, model, {"QUERY_EMBEDDINGS": embeddings, "CANDIDATE_IDS": ids}, collection=wide)
        assert "CANDIDATE_IDS holds 16385 ids" in message


@pytest.mark.parametrize("shape", [(1, limits.MAX_QUERY_TOKENS + 1, DIM), (64, 129, DIM)])
def test_tokens_of_all_queries(channel: grpc.Channel, wide: str, shape: tuple[int, ...]) -> None:
    message = refused(channel, "search", {"QUERY_EMBEDDINGS": np.zeros(shape, np.float32)}, collection=wide)
    assert f"QUERY_EMBEDDINGS has shape {list(shape)}, {shape[0] * shape[1]} tokens; expected at most 8192" in message


def test_an_answer_that_cannot_be_sent_is_refused_by_what_would_help(
    client: Client, channel: grpc.Channel, wide: str
) -> None:
    for queries, top_k in ((["x"] * 8, WIDE), (["x"] * 64, 5)):
        with pytest.raises(InvalidArgument, match=r"more than 67108864 bytes .*top_k.*with_text"):
            client.search_batch(wide, queries, top_k=top_k)
        found = client.search_batch(wide, queries, top_k=top_k, with_text=False)
        assert {len(result) for result in found} == {top_k}
    ids = [f"{i:02}" for i in range(WIDE)]
    message = refused(channel, "catalog", {"IDS": [ids * 2]}, collection=wide, operation="get")
    assert "more than 67108864 bytes; expected fewer ids, 85 of these 96 at most" in message
    assert [document and document.id for document in client.get(wide, ids)] == ids


def test_pages_are_cut_by_bytes_and_lose_nothing(client: Client, wide: str) -> None:
    pages, after = [], None
    while page := client.scroll(wide, limit=WIDE, after=after):
        pages.append([document.id for document in page])
        after = page[-1].id
    assert len(pages) == 2 and len(pages[0]) < WIDE
    assert [key for page in pages for key in page] == [f"{i:02}" for i in range(WIDE)]


BOMB = "a b c d " * (limits.MAX_TEXT_BYTES // 8)
"""Some 20 s of encoding."""


def upsert_of_a_bomb(collection: str) -> pb.ModelInferRequest:
    return kserve.request("ingest", {"ID": [["x"]], "TEXT": [[BOMB]]}, collection=collection, operation="upsert")


def test_a_long_document_holds_up_no_other_writer(client: Client, channel: grpc.Channel) -> None:
    bomb = rpc.GRPCInferenceServiceStub(channel).ModelInfer.future(upsert_of_a_bomb("bombs"), timeout=60)
    time.sleep(0.5)
    client.create_collection("beside-a-bomb")
    client.upsert("beside-a-bomb", [Document("one", "a short text")])
    assert len(client.search("beside-a-bomb", "a short text")) == 1
    assert not bomb.done(), "others came first"
    bomb.cancel()
    client.upsert("beside-a-bomb", [Document("two", "a short text")])
    before = encoded(client)
    time.sleep(1.0)
    assert encoded(client) == before, "nobody waits for it any more"
    with pytest.raises(NotFound):
        client.count("bombs")


def test_a_document_that_takes_longer_than_its_sender_waits_is_given_up(client: Client, channel: grpc.Channel) -> None:
    sent = upsert_of_a_bomb("bombs")
    kserve.set_parameter(sent.parameters["timeout"], 500_000)
    answer = kserve.infer(channel, sent, 60)
    assert answer.status == "INTERNAL" and answer.message.startswith("DEADLINE_EXCEEDED: "), answer
    with pytest.raises(NotFound):
        client.count("bombs")


def encoded(client: Client) -> int:
    """Calls of the encoder by the other models so far."""
    return next(model.executions for model in client.statistics() if model.model == "encoder")


def test_64_long_texts_hold_up_no_search(server: TritonServer, client: Client) -> None:
    client.upsert("beside-texts", [Document("one", "a short text")])
    client.search("beside-texts", "text")
    texts = [" ".join(f"word{i} and{j}" for j in range(300)) for i in range(limits.MAX_BATCH)]
    took: list[float] = []

    def encode() -> None:
        with Client(server.address, timeout_s=120) as other:
            began = time.monotonic()
            assert len(other.encode_document(texts, batch_size=limits.MAX_BATCH)) == len(texts)
            took.append(time.monotonic() - began)

    encoding = threading.Thread(target=encode)
    encoding.start()
    searches = []
    while encoding.is_alive():
        began = time.monotonic()
        assert client.search("beside-texts", "short")[0].id == "one"
        searches.append(time.monotonic() - began)
    encoding.join()
    assert len(searches) > 5 and max(searches) < took[0] / 2, (took, searches)
