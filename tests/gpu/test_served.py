"""The served models' services on the GPU, against the same on the CPU: searches in every mode, filters, writes.

What Triton server adds is tested by test_server.py.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builds import write
from device_encoders import HostDeviceEncoder
from eventually import eventually
from judged_folders import judged_folder
from numpy.typing import NDArray
from service_requests import answers, strings, upsert
from torch.profiler import ProfilerActivity, profile

from benchmarks import agreement
from benchmarks.beir import read_beir
from examples import stdlib_corpus
from tridex.building import Progress, build_collection, new_collection_spec
from tridex.encoding import (
    Artifact,
    DeviceEncoder,
    Encoder,
    TokenBatch,
    create_encoder,
    latest_version_dir,
    load_artifact,
)
from tridex.encoding.cuda_encoder import _BATCHES, _WIDTHS, CudaEncoder
from tridex.index import Store
from tridex.index.resident.inverted_lists import MIN_LISTED_DOCUMENTS
from tridex.kernels import Codec
from tridex.protocol.sources import open_source
from tridex.serving.backend.query_tokens import QueryTokens
from tridex.serving.backend.service import Arrays, Context, Request, RequestError, Result, Sender
from tridex.serving.engine.explanations import Explainer
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.metrics.registry import Metrics
from tridex.serving.models.encoder import EncoderService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService
from tridex.serving.requests.search import SearchRequest

pytestmark = pytest.mark.xdist_group("served")

QUERIES = [
    "red planet",
    "how far is the moon from the comet that was seen over the ocean last night",
    "a",
    "dust and rings around the sixth planet of the sun",
]

TOLERANCE = 2e-3
"""Of a score: products of a GPU's libraries are of TF32 or of another order."""
BATCH_TOLERANCE = 1e-3
"""Of a score: on a GPU their order depends on the batch."""
TENSORRT_TOLERANCE = 1e-2
"""Of a score: what a start with --tensorrt allows."""
QUALITY_TOLERANCE = 2e-3
"""Of nDCG@10."""

BUSY_CYCLES = 2_000_000_000
"""Of a GPU's clock, a second or more; giving it a batch takes milliseconds."""


def patient() -> Sender:
    """One whose request arrives now."""
    return Sender(timeout_s=120.0)


def texts() -> dict[str, str]:
    words = ["red", "blue", "planet", "moon", "dust", "comet", "ocean", "ring", "sun", "night"]
    random = np.random.default_rng(0)
    return {f"{i:03}": " ".join(random.choice(words, 3 + i % 40)) for i in range(300)}


DIM = 128
LISTED = (Codec.FLOAT16, Codec.RESIDUAL4)
"""Codecs of the collections that are large enough for inverted lists: one trains centroids for them, one has some."""


def build_listed(artifact: Artifact, folder: Path, store: Path) -> None:
    """A collection in each of these codecs, of drawn embeddings."""
    rows = [{"_id": f"{i}", "text": f"{i}"} for i in range(MIN_LISTED_DOCUMENTS)]
    source = open_source(write(folder / "rows.jsonl", rows))

    def embed(texts: Iterable[str], _windows: bool) -> Iterator[NDArray[np.float32]]:
        for text in texts:
            tokens = np.random.default_rng(int(text)).standard_normal((8, DIM), np.float32)
            yield tokens / np.linalg.norm(tokens, axis=1, keepdims=True)

    for codec in LISTED:
        spec = new_collection_spec(artifact, codec)
        build_collection(
            source,
            Store(store),
            codec.value,
            spec,
            embed,
            progress=Progress(quiet=True),
            documents_per_commit=MIN_LISTED_DOCUMENTS,
        )


@pytest.fixture(scope="module")
def gpu_context(gpu_repository: Path, device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """With a store of the collections c, in float16, and i, in int8, and those of `build_listed`."""
    store = tmp_path_factory.mktemp("store")
    artifact = load_artifact(latest_version_dir(gpu_repository / "encoder"))
    build_listed(artifact, tmp_path_factory.mktemp("listed"), store)

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
    return Request({"QUERY": strings(text)}, {"collection": "c", **parameters}, patient())


def check_same(found: Arrays | RequestError, expected: Arrays | RequestError, tolerance: float = TOLERANCE) -> None:
    """The same scores within the tolerance, and the same documents where scores are further apart than it."""
    assert not isinstance(found, RequestError), found
    assert not isinstance(expected, RequestError), expected
    assert found["IDS"].shape == expected["IDS"].shape
    np.testing.assert_allclose(found["SCORES"], expected["SCORES"], rtol=0, atol=tolerance)
    for scores, ours, theirs in zip(expected["SCORES"], found["IDS"], expected["IDS"], strict=True):
        apart = np.diff(scores) < -4 * tolerance
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
    """One of 64, which have other lengths, modes and collections."""
    on_gpu, _ = services
    others = [
        search(" ".join(f"{text} {i}" for _ in range(1 + i % 9)), **OPTIONS[i % len(OPTIONS)])
        for i, text in enumerate(QUERIES * 16)
    ][:63]
    for text in QUERIES:
        (alone,) = answers(on_gpu, [search(text)])
        check_same(answers(on_gpu, [*others[:30], search(text), *others[30:]])[30], alone, BATCH_TOLERANCE)


def test_texts_of_one_request_on_a_busy_gpu(services: tuple[SearchService, SearchService]) -> None:
    """They are put together when they are encoded, not before; where others' embeddings lay before."""
    on_gpu, on_cpu = services
    together, others = (
        Request({"QUERY": strings(*texts)}, {"collection": "c"}, patient()) for texts in (QUERIES, QUERIES[::-1])
    )
    (expected,) = answers(on_cpu, [together])
    for _ in range(3):
        answers(on_gpu, [others])
        if on_gpu._stream is not None:
            with torch.cuda.stream(on_gpu._stream):
                torch.cuda._sleep(BUSY_CYCLES)
        (found,) = answers(on_gpu, [together])
        check_same(found, expected)


def test_ranking_is_as_good_as_the_cpu_s(gpu_repository: Path, device: torch.device, tmp_path: Path) -> None:
    """By judgements, of a collection that each device has encoded; and a query finds the same among others, but for
    documents whose scores, each within BATCH_TOLERANCE, can change places."""
    judged = judged_folder(tmp_path / "judged", stdlib_corpus.load(tmp_path / "stdlib.jsonl"))
    artifact = load_artifact(latest_version_dir(gpu_repository / "encoder"))
    found = agreement.measured(read_beir(judged), artifact, str(device))
    assert found.quality == pytest.approx(found.cpu_quality, abs=QUALITY_TOLERANCE)
    assert found.cpu_quality > 0.5, "the judged documents are found at all"
    assert found.largest_difference <= BATCH_TOLERANCE
    assert found.largest_gap <= 2 * BATCH_TOLERANCE


def test_tensorrt_finds_what_the_cpu_finds(
    gpu_context: Context, services: tuple[SearchService, SearchService], device: torch.device
) -> None:
    if device.type == "cpu":
        pytest.skip("TensorRT is for a GPU")
    if not find_spec("tensorrt_libs"):
        pytest.skip("gpu-dev does not bring TensorRT: pip install tensorrt-cu13-libs; its engine takes minutes")
    requests = [search(text) for text in QUERIES]
    expected = answers(services[1], requests)
    with_tensorrt = SearchService(replace(gpu_context, tensorrt=True))
    try:
        for found, wanted in zip(answers(with_tensorrt, requests), expected, strict=True):
            check_same(found, wanted, TENSORRT_TOLERANCE)
    finally:
        with_tensorrt.close()


@pytest.mark.parametrize("codec", LISTED)
def test_candidates_of_inverted_lists(services: tuple[SearchService, SearchService], codec: Codec) -> None:
    """They are used once they are made, and what they propose is scored exactly."""
    on_gpu, _ = services
    query = np.random.default_rng(1).standard_normal((1, 6, DIM), np.float32)

    def ask(service: SearchService, inputs: Arrays | None = None, **parameters: Any) -> Arrays:
        request = Request(
            {"QUERY_EMBEDDINGS": query, **(inputs or {})}, {"collection": codec.value, **parameters}, patient()
        )
        (found,) = answers(service, [request])
        assert not isinstance(found, RequestError), found
        return found

    few: dict[str, Any] = {"exact": False, "n_probe": 1, "n_candidates": 10}
    every = ask(on_gpu)["IDS"].tolist()
    eventually(lambda: ask(on_gpu, **few)["IDS"].tolist() != every, within_s=120)
    found = ask(on_gpu, **few)
    for service in services:
        check_same(found, ask(service, {"CANDIDATE_IDS": found["IDS"]}))


def embedded(service: SearchService, text: str) -> dict[str, Any]:
    """The query as embeddings, padded as a batch's shorter queries are."""
    (encoded,) = answers(service, [Request({"QUERY_TO_ENCODE": strings(text)}, {}, patient())])
    assert not isinstance(encoded, RequestError), encoded
    embeddings, mask = encoded["EMBEDDINGS"], encoded["EMBEDDING_MASK"]
    return {
        "QUERY_EMBEDDINGS": np.pad(embeddings, ((0, 0), (0, 3), (0, 0)), constant_values=7),
        "QUERY_MASK": np.pad(mask, ((0, 0), (0, 3))),
    }


def test_embeddings_and_given_documents(services: tuple[SearchService, SearchService]) -> None:
    """In one batch: queries as texts and as embeddings, over the whole collection and over documents that are named."""
    named = {"CANDIDATE_IDS": np.array([[b"007", b"123", b"none", b"042"]], object)}
    requests = [
        Request({**query, **candidates}, {"collection": "c"}, patient())
        for text in QUERIES
        for query in ({"QUERY": strings(text)}, embedded(services[1], text))
        for candidates in ({}, named)
    ]
    for found, expected in zip(*(answers(service, requests) for service in services), strict=True):
        check_same(found, expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_no_numbers_are_refused_alone(
    services: tuple[SearchService, SearchService], bad: float
) -> None:
    on_gpu, _ = services
    expected = answers(on_gpu, [search(text) for text in QUERIES[:2]])
    spoilt = embedded(on_gpu, QUERIES[2])
    spoilt["QUERY_EMBEDDINGS"][0, 0, 5] = bad
    batch = [search(QUERIES[0]), Request(spoilt, {"collection": "c"}, patient()), search(QUERIES[1])]
    first, refused, last = answers(on_gpu, batch)
    assert isinstance(refused, RequestError) and "QUERY_EMBEDDINGS holds NaN or infinity" in str(refused)
    check_same(first, expected[0], BATCH_TOLERANCE)
    check_same(last, expected[1], BATCH_TOLERANCE)


@pytest.mark.parametrize("options", [{}, {"collection": "i"}, {"mode": "hybrid"}])
def test_explanations(services: tuple[SearchService, SearchService], options: dict[str, Any]) -> None:
    requests = [search(text, explain=3, explain_matrix=True, **options) for text in QUERIES]
    for found, expected in zip(*(answers(service, requests) for service in services), strict=True):
        assert not isinstance(found, RequestError) and not isinstance(expected, RequestError)
        theirs = dict(zip(expected["IDS"][0], expected["EXPLANATIONS"][0], strict=True))
        same = [(json.loads(ours), json.loads(theirs[key])) for key, ours in _explained(found) if theirs.get(key)]
        assert same, "the three best are not all others"
        for ours, other in same:
            assert ours["score"] == pytest.approx(other["score"], abs=TOLERANCE)
            np.testing.assert_allclose(np.array(ours["matrix"]), np.array(other["matrix"]), atol=TOLERANCE)


def _explained(answer: Arrays) -> list[tuple[bytes, bytes]]:
    return [(key, text) for key, text in zip(answer["IDS"][0], answer["EXPLANATIONS"][0], strict=True) if text]


class Batches:
    """Encodes and searches QUERIES as one batch, on a stream that a test can look at."""

    def __init__(self, context: Context, device: torch.device) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / "encoder"))
        self.stream = torch.cuda.Stream(device)
        with torch.cuda.stream(self.stream):
            encoder = create_encoder(artifact, str(device))
        assert isinstance(encoder, DeviceEncoder)
        encoder.capture(artifact.manifest.rules.query.length)
        self._encoder = encoder
        explainer = Explainer(artifact.manifest, artifact.tokenizer(), encoder.encode_many)
        self.engine = SearchEngine(context, artifact, explainer, self.stream)
        self._rows = list(QueryTokens(artifact.tokenizer()).rows(QUERIES))

    def start(self, **parameters: Any) -> Callable[[], Sequence[Result]]:
        parsed = [SearchRequest.parse(search(text, **parameters)) for text in QUERIES]
        requests = []
        for request, found, row in zip(parsed, self._encoder.encode_on_device(self._rows), self._rows, strict=True):
            mask = np.pad(row.embedding_mask, ((0, 0), (0, found.shape[1] - row.embedding_mask.shape[1])))
            requests.append(request.encoded(found, mask))
        return self.engine.start(requests)


@pytest.fixture
def batches(gpu_context: Context, device: torch.device) -> Iterator[Batches]:
    if device.type == "cpu":
        pytest.skip("a CPU has neither a stream to wait for nor anything to copy to")
    batches = Batches(gpu_context, device)
    for _ in range(3):
        batches.start()()
    yield batches
    batches.engine.close()


def test_nothing_waits_between_a_batch_s_texts_and_its_search(batches: Batches) -> None:
    """A GPU that is busy before a batch comes is busy still when encoding and search have been given to it."""

    def was_busy() -> bool:
        with torch.cuda.stream(batches.stream):
            torch.cuda._sleep(BUSY_CYCLES)
        wait = batches.start()
        busy = not batches.stream.query()
        assert all(isinstance(result, dict) for result in wait())
        return busy

    # What is made behind the first searches may hold one up.
    assert any(was_busy() for _ in range(3))


def test_a_batch_is_copied_up_and_down_once(batches: Batches) -> None:
    """Up go its tokens, for the encoder, and which of them count, for the search; nothing more with a filter that the
    device has seen."""

    def copies(**parameters: Any) -> tuple[int, int]:
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            assert all(isinstance(result, dict) for result in batches.start(**parameters)())
        counts = {event.key: event.count for event in profiler.key_averages()}
        up, down = (
            sum(count for name, count in counts.items() if name.startswith(f"Memcpy {way}")) for way in ("HtoD", "DtoH")
        )
        return up, down

    filters = json.dumps({"field": "meta.n", "operator": ">=", "value": 1})
    batches.start(filters=filters)()
    # What is made behind the first searches may copy something, too.
    assert (2, 1) in [copies() for _ in range(3)]
    assert (2, 1) in [copies(filters=filters) for _ in range(3)]


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
    rerank = Request({"QUERY_TO_RERANK": strings(QUERIES[1]), "DOCUMENTS": strings(*documents).T}, {}, patient())
    queries = Request({"QUERY_TO_ENCODE": strings(*QUERIES)}, {}, patient())
    read = Request({"DOCUMENT": strings(*documents)}, {}, patient())
    for found, expected in zip(*(answers(service, [rerank, queries, read]) for service in services), strict=True):
        assert not isinstance(found, RequestError) and not isinstance(expected, RequestError)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=TOLERANCE)


def test_what_one_thread_captures_another_replays(
    gpu_repository: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the schedulers do, which have threads of their own."""
    if device.type == "cpu":
        pytest.skip("a CPU has no graph to capture")
    artifact = load_artifact(latest_version_dir(gpu_repository / "encoder"))
    with torch.cuda.stream(torch.cuda.Stream(device)):
        encoder = create_encoder(artifact, str(device))
    assert isinstance(encoder, CudaEncoder)
    batches = [artifact.tokenizer().queries([text]) for text in QUERIES]
    expected = encoder.encode_many(batches)
    encoder.capture(artifact.manifest.rules.query.length)
    monkeypatch.setattr(encoder, "_session", None)  # so that nothing can be computed but by a graph
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: encoder.encode_many(batches), range(32)):
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


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
    if captured and isinstance(encoder, CudaEncoder):
        widths = [width for width in _WIDTHS if width < artifact.manifest.rules.query.length + _WIDTHS[0]]
        assert set(encoder._shapes) == {(batch, width) for batch in _BATCHES for width in widths}
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
