"""A real Triton server on the GPU: its answers against a server's on the CPU and against Sentence Transformers, many
clients, writes, filters, two servers side by side, and what a start leaves for the next one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import servers
import torch
from builds import write
from eventually import eventually
from sentence_transformers import MultiVectorEncoder

from tridex.building import Embedder, Progress, build_collection, document_reading, new_collection_spec
from tridex.client import Client, SearchResult, Unavailable
from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import FieldType, Store
from tridex.kernels import Codec
from tridex.protocol.sources import open_source
from tridex.serving.kernel_cache import default_folder
from tridex.serving.server import ServerError, TritonServer

pytestmark = pytest.mark.xdist_group("server")

TOLERANCE = 2e-3
"""Of a score: products of a GPU's libraries are of TF32 or of another order, which depends on the batch."""

BUDGET = 2**29
CODECS = (Codec.FLOAT16, Codec.INT8, Codec.RESIDUAL4)
TOPICS = {
    "shutil.rmtree": "delete a directory and everything in it",
    "socket.listen": "wait for connections of clients on a port",
    "json.loads": "read a value from a text in JSON",
    "heapq.nsmallest": "the smallest numbers of a list",
    "zipfile.ZipFile": "open an archive and read its members",
    "datetime.timedelta": "the time between two dates",
    "random.shuffle": "put the cards of a deck in any order",
    "threading.Lock": "let one thread at a time change a variable",
}
QUERIES = ["remove a folder", "parse JSON", "how do I pick the least of many values?", "mutual exclusion", "unpack"]


def documents() -> dict[str, str]:
    """Each topic, in eight lengths."""
    filler = "It raises an error where an argument is of another type, and returns None."
    return {
        f"{name}/{more}": f"{text} {' '.join([f'Note {more}.', filler] * more)}".strip()
        for name, text in TOPICS.items()
        for more in range(8)
    }


@pytest.fixture(scope="module")
def store(gpu_repository: Path, device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built on the device, a collection in each of these codecs."""
    folder = tmp_path_factory.mktemp("built")
    rows = [{"_id": key, "text": text, "metadata": {"n": i}} for i, (key, text) in enumerate(documents().items())]
    source = open_source(write(folder / "rows.jsonl", rows))
    artifact = load_artifact(latest_version_dir(gpu_repository / "encoder"))
    encoder = create_encoder(artifact, str(device))
    for codec in CODECS:
        spec = new_collection_spec(artifact, codec, {"n": FieldType.INT})
        embed = Embedder(artifact, encoder, document_reading(spec, artifact.manifest))
        build_collection(source, Store(folder / "store"), codec.value, spec, embed, progress=Progress(quiet=True))
    return folder / "store"


def new_server(
    repository: Path, store: Path, device: str, budget: int | None = BUDGET, cache: Path | None = None
) -> TritonServer:
    return servers.new_server(repository, store, device=device, memory_budget=budget, kernel_cache=cache)


@pytest.fixture(scope="module")
def copied(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes a copy of the store, for a server of its own, with nothing beside it."""

    def copy() -> Path:
        target = tmp_path_factory.mktemp("copy") / "store"
        shutil.copytree(store, target)
        return target

    return copy


@pytest.fixture(scope="module")
def cache(store: Path, request: pytest.FixtureRequest) -> Path:
    """The first server's kernel cache, so that the others need not compile."""
    kept: Path | None = request.config.getoption("--kernel-cache")
    return kept.resolve() if kept else default_folder(store)


@pytest.fixture(scope="module")
def on_device(gpu_repository: Path, store: Path, cache: Path, device: torch.device) -> Iterator[TritonServer]:
    with new_server(gpu_repository, store, str(device), cache=cache) as server:
        yield server


@pytest.fixture(scope="module")
def on_cpu(gpu_repository: Path, copied: Callable[[], Path]) -> Iterator[TritonServer]:
    with new_server(gpu_repository, copied(), "cpu") as server:
        yield server


def connected(server: TritonServer) -> Client:
    return Client(server.address, timeout_s=120)


def check_same(found: SearchResult, expected: SearchResult) -> None:
    """The same scores within the tolerance, and the same documents where scores are further apart than it."""
    assert len(found.hits) == len(expected.hits)
    ours, theirs = (np.array([hit.score for hit in result.hits]) for result in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
    apart = np.diff(theirs) < -4 * TOLERANCE
    for place in np.flatnonzero(np.append(True, apart) & np.append(apart, False)):
        assert found.hits[place].id == expected.hits[place].id


@pytest.mark.parametrize("collection", ["float16", "int8", "residual4"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mode": "hybrid"},
        {"mode": "rerank", "n_candidates": 20},
        {"filters": {"field": "meta.n", "operator": ">=", "value": 40}},
    ],
)
def test_a_server_on_the_cpu_finds_the_same(
    on_device: TritonServer, on_cpu: TritonServer, collection: str, options: dict[str, object]
) -> None:
    with connected(on_device) as ours, connected(on_cpu) as theirs:
        for query in QUERIES:
            found, expected = (client.search(collection, query, **options) for client in (ours, theirs))  # type: ignore[arg-type]
            check_same(found, expected)


def test_sentence_transformers_finds_the_same(on_device: TritonServer, gpu_checkpoint: Path) -> None:
    model = MultiVectorEncoder(str(gpu_checkpoint), device="cpu")
    corpus = documents()
    scores = model.similarity(model.encode_query(QUERIES), model.encode_document(list(corpus.values()))).numpy()
    with connected(on_device) as client:
        for query, expected in zip(QUERIES, scores, strict=True):
            found = client.search("float16", query, top_k=len(corpus))
            by_id = dict(zip(corpus, expected.tolist(), strict=True))
            ours = [hit.score for hit in found.hits]
            # float16 rounds each number to 11 bits.
            np.testing.assert_allclose(ours, [by_id[hit.id] for hit in found.hits], atol=5 * TOLERANCE)


def test_many_clients_get_their_own_answers(on_device: TritonServer) -> None:
    with connected(on_device) as client:
        expected = {query: client.search("int8", query) for query in QUERIES}

    def ask(number: int) -> None:
        with connected(on_device) as client:
            for query in QUERIES[number % len(QUERIES) :] + QUERIES[: number % len(QUERIES)]:
                check_same(client.search("int8", query), expected[query])

    with ThreadPoolExecutor(32) as clients:
        for done in [clients.submit(ask, number) for number in range(64)]:
            done.result()


def test_what_was_written_is_found_while_others_search(on_device: TritonServer) -> None:
    texts = [f"zebra number {i} crosses the savannah" for i in range(200)]
    with connected(on_device) as client, ThreadPoolExecutor(8) as searching:
        client.create_collection("written", codec="int8", fields={"n": "int"})
        searches = [searching.submit(client.search, "float16", QUERIES[i % len(QUERIES)]) for i in range(400)]
        rows = [{"id": f"z{i}", "text": text, "metadata": {"n": i}} for i, text in enumerate(texts)]
        client.upsert("written", rows, batch_size=64)
        for i in (0, 77, 199):
            filters = {"field": "meta.n", "operator": "==", "value": i}
            found = client.search("written", texts[i], filters=filters)
            assert [hit.id for hit in found.hits] == [f"z{i}"]
        assert all(search.result().hits for search in searches)
        client.drop_collection("written")


@pytest.mark.alone
def test_two_servers_on_one_device(
    gpu_repository: Path, copied: Callable[[], Path], cache: Path, on_device: TritonServer
) -> None:
    """Without a budget the second takes all that the first has left, and a third has no room; many ask both at once."""
    second = new_server(gpu_repository, copied(), on_device.device, budget=None, cache=cache)
    with second, connected(on_device) as ours, connected(second) as theirs, ThreadPoolExecutor(128) as clients:
        if on_device.device != "cpu":
            with pytest.raises(
                ServerError, match=r"free; encoder and searches need .*: nothing is left for collections"
            ):
                new_server(gpu_repository, copied(), on_device.device, cache=cache).start()
        for query in QUERIES:
            expected = ours.search("int8", query, top_k=64)
            searches = [
                clients.submit(one.search, "int8", query, top_k=64) for one in (ours, theirs) for _ in range(64)
            ]
            for search in searches:
                check_same(search.result(), expected)


def test_a_start_finds_what_the_one_before_has_compiled(
    gpu_repository: Path, copied: Callable[[], Path], cache: Path, on_device: TritonServer
) -> None:
    def compiled(server: TritonServer) -> set[Path]:
        with connected(server) as client:
            for codec in CODECS:  # Explanations' kernels are compiled behind a start, and waited for here.
                assert client.search(codec.value, QUERIES[0], explain=1).hits[0].explanation
        return {*cache.rglob("*.cubin")}

    first = compiled(on_device)
    assert bool(first) == (on_device.device != "cpu")
    target = copied()
    with new_server(gpu_repository, target, on_device.device, cache=cache) as server:
        assert compiled(server) == first
    assert not [*default_folder(target).rglob("*.cubin")], "it compiled, and not in the cache that it was given"


def test_a_budget_that_the_gpu_has_no_memory_for(gpu_repository: Path, store: Path, device: torch.device) -> None:
    if device.type == "cpu":
        pytest.skip("the host's memory is not counted")
    with pytest.raises(ServerError, match=r"the memory budget is .*; expected at most"):
        new_server(gpu_repository, store, str(device), budget=2**40).start()


def test_one_that_fails_in_the_middle_of_a_batch_is_started_again(
    gpu_repository: Path, copied: Callable[[], Path], cache: Path, device: torch.device, tmp_path: Path
) -> None:
    """A kernel's own assertion is a fault of the context as any other."""
    if device.type == "cpu":
        pytest.skip("a CPU has no such fault; tests/end_to_end/test_failing_models.py raises the error")
    models = tmp_path / "models"
    shutil.copytree(gpu_repository, models)
    (models / "search" / "1" / "model.py").write_text(FAULTY)
    with new_server(models, copied(), str(device), cache=cache) as server, connected(server) as client:
        expected = client.search("int8", QUERIES[0])
        first = server.pid
        with pytest.raises(Unavailable):  # the client retries for a second, and a start takes more
            client.search("int8", FAULT)
        eventually(lambda: server.is_ready, within_s=600)
        assert server.pid != first
        check_same(client.search("int8", QUERIES[0]), expected)
    assert "the GPU failed: " in server.log.read_text()


FAULT = "the query at which the first server's GPU fails"
FAULTY = f"""
from pathlib import Path
import torch
from tridex.serving.backend.python_backend import python_model
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.models.search import SearchService

start, failed = SearchEngine.start, Path(__file__).with_name("failed")

def faulty(self, requests):
    if any({json.dumps(FAULT)} in request.texts for request in requests) and not failed.exists():
        failed.touch()
        torch._assert_async(torch.zeros(1, device="cuda"))
    return start(self, requests)

SearchEngine.start = faulty
TritonPythonModel = python_model(SearchService)
"""
