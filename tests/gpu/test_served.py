"""The served models' services on the GPU, against the same on the CPU: searches in every mode, filters, writes.

What Triton server adds is tested by test_server.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from device_encoders import HostDeviceEncoder
from numpy.typing import NDArray
from service_requests import answers, strings, upsert

from tridex.encoding import DeviceEncoder, Encoder, TokenBatch, create_encoder, latest_version_dir, load_artifact
from tridex.serving.backend.service import Arrays, Context, Request, RequestError, Sender
from tridex.serving.metrics.registry import Metrics
from tridex.serving.models.encoder import EncoderService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService

QUERIES = [
    "red planet",
    "how far is the moon from the comet that was seen over the ocean last night",
    "a",
    "dust and rings around the sixth planet of the sun",
]
PATIENT = Sender(timeout_s=120.0)

TOLERANCE = 2e-3
"""Of a score: products of a GPU's libraries are of TF32 or of another order, which depends on the batch."""


def texts() -> dict[str, str]:
    words = ["red", "blue", "planet", "moon", "dust", "comet", "ocean", "ring", "sun", "night"]
    random = np.random.default_rng(0)
    return {f"{i:03}": " ".join(random.choice(words, 3 + i % 40)) for i in range(300)}


@pytest.fixture(scope="module")
def gpu_context(gpu_repository: Path, device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """With a store of the collections c, in float16, and i, in int8."""
    store = tmp_path_factory.mktemp("store")

    def no_infer(*_: Any) -> dict[str, NDArray[Any]]:
        raise AssertionError("the encoder calls no other model")

    encoder = EncoderService(Context(gpu_repository, str(device), store, no_infer, Metrics()))

    def infer(_model: str, inputs: Arrays, _outputs: Any) -> dict[str, NDArray[Any]]:
        (result,) = encoder.answer([Request(inputs)])
        assert isinstance(result, dict)
        return result

    context = Context(gpu_repository, str(device), store, infer, Metrics(), memory_budget=2**30)
    ingest = IngestService(context)
    for name, codec in (("c", "float16"), ("i", "int8")):
        created = Request(
            {"ID": strings().reshape(1, 0)},
            {"operation": "create", "collection": name, "codec": codec, "fields": json.dumps({"n": "int"})},
        )
        inputs = {"ID": strings(*texts()), "TEXT": strings(*texts().values())}
        inputs["METADATA"] = strings(*(json.dumps({"n": i}) for i in range(len(texts()))))
        for request in (created, Request(inputs, {"collection": name, "operation": "upsert"})):
            (done,) = answers(ingest, [request])
            assert not isinstance(done, RequestError), done
    ingest.close()
    return context


@pytest.fixture(scope="module")
def services(gpu_context: Context) -> Iterator[tuple[SearchService, SearchService]]:
    """On the GPU and on the CPU, of the same store."""
    on_gpu, on_cpu = SearchService(gpu_context), SearchService(replace(gpu_context, device="cpu"))
    yield on_gpu, on_cpu
    on_gpu.close()
    on_cpu.close()


def search(text: str, **parameters: Any) -> Request:
    return Request({"QUERY": strings(text)}, {"collection": "c", **parameters}, PATIENT)


def check_same(found: Arrays | RequestError, expected: Arrays | RequestError) -> None:
    """The same scores within the tolerance, and the same documents where scores are further apart than it."""
    assert not isinstance(found, RequestError), found
    assert not isinstance(expected, RequestError), expected
    assert found["IDS"].shape == expected["IDS"].shape
    np.testing.assert_allclose(found["SCORES"], expected["SCORES"], atol=TOLERANCE)
    for scores, ours, theirs in zip(expected["SCORES"], found["IDS"], expected["IDS"], strict=True):
        apart = np.diff(scores) < -4 * TOLERANCE
        alone = np.append(True, apart) & np.append(apart, False)
        assert ours[alone].tolist() == theirs[alone].tolist()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"collection": "i"},
    {"top_k": 100, "with_text": False},
    {"mode": "rerank", "n_candidates": 50},
    {"mode": "hybrid", "maxsim_weight": "0.5"},
    {"mode": "bm25"},
    {"exact": False},
    {"filters": json.dumps({"field": "meta.n", "operator": ">=", "value": 250})},
]


def test_searches_of_every_kind_are_the_cpu_s(services: tuple[SearchService, SearchService]) -> None:
    requests = [search(text, **options) for options in OPTIONS for text in QUERIES]
    for found, expected in zip(*(answers(service, requests) for service in services), strict=True):
        check_same(found, expected)


def test_a_query_alone_is_the_query_among_others(services: tuple[SearchService, SearchService]) -> None:
    on_gpu, _ = services
    others = [search(" ".join(f"{text} {i}" for _ in range(1 + i % 9))) for i, text in enumerate(QUERIES * 15)]
    for text in QUERIES:
        (alone,) = answers(on_gpu, [search(text)])
        check_same(answers(on_gpu, [*others[:30], search(text), *others[30:]])[30], alone)


def test_concurrent_searches_and_writes(gpu_context: Context, services: tuple[SearchService, SearchService]) -> None:
    """Sixteen threads search while another writes and finds what it wrote; nobody gets another's answer."""
    on_gpu, on_cpu = services
    expected = answers(on_cpu, [search(text, collection="i") for text in QUERIES])
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(10):
                for found, wanted in zip(
                    answers(on_gpu, [search(text, collection="i") for text in QUERIES]), expected, strict=True
                ):
                    check_same(found, wanted)
        except BaseException as error:  # of any kind: a thread's own would be lost
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    ingest = IngestService(gpu_context)
    try:
        for i in range(5):
            (written,) = answers(ingest, [upsert("c", {f"new{i}": f"zebra number {i} crosses the savannah"})])
            assert not isinstance(written, RequestError), written
            version = int(written["VERSION"][0, 0])
            asked = search(f"zebra number {i} crosses the savannah", min_version=version, top_k=1)
            (found,) = answers(on_gpu, [asked])
            assert not isinstance(found, RequestError), found
            assert found["IDS"].tolist() == [[f"new{i}".encode()]]
    finally:
        ingest.close()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]


def test_texts_and_reranking(services: tuple[SearchService, SearchService]) -> None:
    documents = list(texts().values())[:70]
    rerank = Request({"QUERY_TO_RERANK": strings(QUERIES[1]), "DOCUMENTS": strings(*documents).T}, {}, PATIENT)
    encode = Request({"QUERY_TO_ENCODE": strings(*QUERIES)}, {}, PATIENT)
    (scores, encoded), (cpu_scores, cpu_encoded) = (answers(service, [rerank, encode]) for service in services)
    for found, expected in ((scores, cpu_scores), (encoded, cpu_encoded)):
        assert not isinstance(found, RequestError) and not isinstance(expected, RequestError)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=TOLERANCE)


@pytest.mark.parametrize("captured", [False, True])
def test_the_encoder_is_the_cpu_s(gpu_repository: Path, device: torch.device, captured: bool) -> None:
    """Every shape with a graph, and shapes without: more texts, or wider ones."""
    artifact = load_artifact(latest_version_dir(gpu_repository / "encoder"))
    tokenizer, on_cpu = artifact.tokenizer(), create_encoder(artifact)
    if device.type == "cpu":
        encoder: Encoder = HostDeviceEncoder(create_encoder(artifact))
    else:
        with torch.cuda.stream(torch.cuda.Stream(device)):
            encoder = create_encoder(artifact, str(device))
    assert isinstance(encoder, DeviceEncoder)
    if captured:
        encoder.capture(artifact.manifest.rules.query.length)
    for count in (1, 3, 64, 70):
        batches: list[TokenBatch] = [tokenizer.queries([QUERIES[i % 4] + " x" * i]) for i in range(count)]
        batches += [tokenizer.documents(["moon " * 300, "sun"])] if count == 3 else []
        for found, expected in zip(encoder.encode_many(batches), on_cpu.encode_many(batches), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)
        scoring = [
            array[batch.embedding_mask != 0] for array, batch in zip(on_cpu.encode_many(batches), batches, strict=True)
        ]
        np.testing.assert_allclose(encoder.encode_scoring(batches).cpu(), np.concatenate(scoring), atol=TOLERANCE)
