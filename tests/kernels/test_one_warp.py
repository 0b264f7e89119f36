"""A single query by programs of one warp, without a GPU: search and rescore, their bits and what is compiled."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import interpreted_kernels as kernels
import numpy as np
import pytest
import torch
from compiled_kernels import SHARED_MEMORY, register_use_of
from maxsim_data import documents, masks, packed, queries

from tridex.kernels import Codebook, Codec, pack, pack_bitmap
from tridex.kernels.gpu import backend, query_tile, single_query
from tridex.kernels.gpu.gluon.roles import SINGLE_QUERIES, OneWarp, kernels_of, one_warp_of, serves


@pytest.fixture(scope="module")
def interpreter() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("TRITON_INTERPRET", "1")
            # torch then fills all that torch.empty returns with NaN and the largest integers.
            pool.submit(torch.use_deterministic_algorithms, True).result()
        yield pool


RAGGED = [0, 1, 31, 32, 33, 100, 63, 64, 65, 2] * 3
MANY = [1] * 150 + [0] * 70 + [40]


@pytest.mark.parametrize(
    ("codec", "lengths", "live", "tokens", "top_k", "programs"),
    [
        (Codec.FLOAT16, RAGGED, 0.7, 32, 10, 2),
        (Codec.INT8, RAGGED, 0.7, 20, 40, 3),
        (Codec.RESIDUAL4, RAGGED, 0.7, 32, 10, 2),
        (Codec.RESIDUAL2, RAGGED, 0.7, 32, 3, 1),
        (Codec.INT8, MANY, 0.7, 32, 300, 1),
        (Codec.FLOAT16, RAGGED, 0.0, 9, 10, 2),
        (Codec.INT8, [0], 1.0, 1, 1, 2),
    ],
    ids=[
        "float16",
        "int8, fewer documents than top_k",
        "residual4",
        "residual2, one program",
        "blocks of 32 documents",
        "no live document",
        "no token",
    ],
)
def test_programs_of_one_warp_have_the_plain_kernels_bits(
    interpreter: ProcessPoolExecutor,
    codec: Codec,
    lengths: list[int],
    live: float,
    tokens: int,
    top_k: int,
    programs: int,
) -> None:
    """Of multiples of 1/16, so that products are exact in any order: that of a device's is left to the device.

    The first documents come again at the end, and tie.
    """
    docs = [np.round(tokens_ * 16).astype(np.float32) / 16 for tokens_ in documents(lengths, 128)]
    docs += docs[:5]
    segment = packed(docs, codec).with_live(pack_bitmap(np.random.default_rng(0).random(len(docs)) < live))
    query = (queries(1, tokens, 128) * 16).round() / 16 + 1 / 16
    arguments = programs, query, segment, top_k, masks(1, tokens)
    plain, found = interpreter.submit(kernels.search_by_one_warp, *arguments).result()
    for one, other in zip(found, plain, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("codec", "lengths", "candidates", "tokens", "programs", "magnitude"),
    [
        (Codec.FLOAT16, RAGGED, 40, 32, 3, 1.0),
        (Codec.INT8, RAGGED, 40, 20, 60, 2.0**-30),
        (Codec.RESIDUAL4, RAGGED, 40, 32, 1, 1.0),
        (Codec.RESIDUAL2, RAGGED, 40, 1, 2, 2.0**100),
        (Codec.INT8, MANY, 260, 9, 1, 1.0),
        (Codec.RESIDUAL2, RAGGED, 1, 32, 12, 1.0),
    ],
    ids=[
        "float16",
        "int8, more programs than candidates",
        "residual4, one program",
        "residual2, a query of one token",
        "blocks of 32 candidates",
        "one candidate",
    ],
)
def test_a_rescore_has_the_plain_kernels_bits(
    interpreter: ProcessPoolExecutor,
    codec: Codec,
    lengths: list[int],
    candidates: int,
    tokens: int,
    programs: int,
    magnitude: float,
) -> None:
    """Of documents that are repeated, deleted, empty or not there."""
    docs = [np.round(tokens_ * 16).astype(np.float32) / 16 for tokens_ in documents(lengths, 128)]
    chance = np.random.default_rng(0)
    segment = packed(docs, codec).with_live(pack_bitmap(chance.random(len(docs)) < 0.8))
    rows = torch.from_numpy(chance.integers(-3, len(docs) + 3, (1, candidates)))
    rows[0, :3] = torch.tensor([5, 2**40, -(2**40)])[:candidates]
    query = ((queries(1, tokens, 128) * 16).round() / 16 + 1 / 16) * magnitude
    arguments = programs, query, segment, rows, masks(1, tokens)
    plain, found = interpreter.submit(kernels.rescore_by_one_warp, *arguments).result()
    assert candidates == 1 or len(set(plain[0].tolist())) > 10
    assert torch.equal(found, plain)


def test_a_rescore_of_no_candidate_launches_nothing() -> None:
    segment, query = packed(documents([3], 128), Codec.INT8), queries(1, 32, 128)
    none = torch.empty((1, 0), dtype=torch.int64)
    assert backend.rescore_by(OneWarp(13), query, None, segment, none).shape == (1, 0)


def test_a_document_past_2_gib_is_read_from_where_it_is(interpreter: ProcessPoolExecutor) -> None:
    """A deleted one before it, of more numbers than 32 bits count, whose memory nobody touches."""
    document = np.round(documents([40], 128)[0] * 16).astype(np.float32) / 16
    query = (queries(1, 32, 128) * 16).round() / 16
    arguments = Codec.INT8, 2**24 + 1, document, query, masks(1, 32)
    plain, found = interpreter.submit(kernels.search_far_away_by_one_warp, *arguments).result()
    assert found[1].tolist() == [[1, -1]]
    assert torch.equal(found[0], plain[0])


def test_a_table_of_centroids_comes_with_the_query_made_ready(interpreter: ProcessPoolExecutor) -> None:
    """More centroids than programs multiply at a time, and a number of them that is not a multiple of that."""
    chance = torch.Generator().manual_seed(0)
    centroids = torch.randint(-90, 90, (500, 128), dtype=torch.int8, generator=chance)
    book = Codebook(centroids, torch.arange(4, dtype=torch.int8), 2.0**-7)
    segment = pack(documents([3], 128), Codec.RESIDUAL2, "cpu", book)
    query, mask = queries(1, 20, 128) * 3, masks(1, 20)
    with_table, without = interpreter.submit(kernels.ready_for_search_and_rescore, query, segment, mask).result()
    *ready, products = with_table
    for one, other in zip(ready, without, strict=True):
        assert torch.equal(one, other)
    expected = centroids.int() @ ready[0][0].int().T
    assert torch.equal(products.transpose(1, 2).flatten(1), expected)


@pytest.mark.parametrize(("top_k", "splits"), [(1, 1), (10, 3), (300, 2)])
def test_the_best_of_scores_are_in_order(interpreter: ProcessPoolExecutor, top_k: int, splits: int) -> None:
    """Buffers that fill up, ties, and documents without a score."""
    chance = torch.Generator().manual_seed(0)
    scores = torch.randint(-50, 50, (5 * single_query.SCORES_AT_A_TIME + 7,), generator=chance) / 8
    scores[torch.rand(scores.shape, generator=chance) < 0.3] = float("-inf")
    found_scores, found_rows = interpreter.submit(kernels.best_of_scores, scores, top_k, splits).result()
    expected, rows = scores.sort(descending=True, stable=True)
    assert torch.equal(found_scores, expected[:top_k])
    assert torch.equal(found_rows, rows[:top_k])


def test_working_memory_has_room_for_the_products_of_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server sets aside for a search is what search_workspace_bytes says."""
    monkeypatch.setattr(backend, "kernels_of", lambda *_: {SINGLE_QUERIES: OneWarp(12)})
    weights = torch.arange(4, dtype=torch.int8)

    def size(centroids: int) -> int:
        book = Codebook(torch.ones((centroids, 128), dtype=torch.int8), weights, 1.0)
        return backend.search_workspace_bytes(pack(documents([3], 128), Codec.RESIDUAL2, "cpu", book), 1, 32, 10)

    assert size(3000) - size(2000) == 1000 * 32 * 4


CODECS = [codec for codec in Codec if one_warp_of(codec, 128, 90)]
OPERATORS = ["search", "rescore"]
AHEAD = """
import json, os, sys
import torch
from tridex.kernels import Codec
from tridex.kernels.gpu import ahead, backend
from tridex.kernels.gpu.gluon.roles import one_warp_of
from tridex.kernels.operator import _one_token

def launch(what, kernel, segment, query, mask, top_k, rows):
    if what == "search":
        backend.search_by(kernel, query, mask, segment, top_k)
    else:
        backend.rescore_by(kernel, query, mask, segment, torch.zeros((1, rows), dtype=torch.int64))

ahead.compile_for(90)
folders, after = json.loads(sys.argv[1])
for codec, folder_of in folders.items():
    kernel, segment = one_warp_of(Codec(codec), 128, 90), _one_token(torch.device("cpu"), 128, Codec(codec))
    for what, folder in folder_of.items():
        os.environ["TRITON_CACHE_DIR"] = folder
        launch(what, kernel, segment, torch.ones((1, 1, 128)), torch.ones((1, 1)) > 0, 1, 1)
    backend.load_kernel(kernel, segment)
    os.environ["TRITON_CACHE_DIR"] = after
    for what in folder_of:
        for mask in (None, torch.ones((1, 17)) > 0):
            launch(what, kernel, segment, torch.ones((1, 17, 128)), mask, 10, 900)
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Codec, str], Path]:
    """What a search and a rescore launch, as compiled for an H100 or H200: a folder for each, and each codec."""
    folders = {(codec, what): tmp_path_factory.mktemp(codec.value) for codec in CODECS for what in OPERATORS}
    by_codec = {codec.value: {what: str(folders[codec, what]) for what in OPERATORS} for codec in CODECS}
    after = tmp_path_factory.mktemp("after")
    subprocess.run([sys.executable, "-c", AHEAD, json.dumps([by_codec, str(after)])], check=True)
    assert not list(after.rglob("*.cubin")), "other shapes, and masks, were compiled at request time"
    return folders


@pytest.mark.parametrize("what", OPERATORS)
@pytest.mark.parametrize("codec", CODECS)
def test_the_kernel_compiles_to_what_the_hardware_is_for(
    codec: Codec, what: str, launched: dict[tuple[Codec, str], Path]
) -> None:
    """As many programs find room together as the table says."""
    [file], kernel = launched[codec, what].rglob("score_documents.cubin"), one_warp_of(codec, 128, 90)
    assert kernel is not None
    registers, shared = register_use_of(file)["REG"], json.loads(file.with_suffix(".json").read_bytes())["shared"]
    print(f"{registers} registers, {shared} bytes of shared memory")
    assert -(-registers // 8) * 8 * 32 * kernel.programs <= query_tile.REGISTERS
    assert shared * kernel.programs <= SHARED_MEMORY[90] - 1024 * (kernel.programs - 1)
    floats = {Codec.FLOAT16: "k16.row.col.f32.f16.f16.f32", Codec.BFLOAT16: "k16.row.col.f32.bf16.bf16.f32"}
    assert products_of(file) == {"mma.sync.aligned.m16n8" + floats.get(codec, "k32.row.col.satfinite.s32.s8.s8.s32")}
    bytes_of_tile = 32 * 128 * codec.layout.bits // 8
    if codec.residual_bits and what == "rescore":
        bytes_of_tile += 32 * 128  # of centroids
    copies = file.with_suffix(".ptx").read_text().count("cp.async.cg.shared.global")
    assert copies * 32 * 16 == bytes_of_tile, "a thread copies 16 bytes at a time"


def test_nothing_that_is_launched_spills_registers(launched: dict[tuple[Codec, str], Path]) -> None:
    made = [file for folder in launched.values() for file in folder.rglob("*.cubin")]
    assert {file.stem for file in made} == {
        "prepare_queries",
        "prepare_with_centroids",
        "score_documents",
        "best_of_scores",
    }
    for file in made:
        assert register_use_of(file).items() >= {"STACK": 0, "LOCAL": 0}.items(), file.stem
    for table in [file for file in made if file.stem == "prepare_with_centroids"]:
        assert products_of(table) == {"wgmma.mma_async.sync.aligned.m64n32k32.s32.s8.s8"}


def products_of(file: Path) -> set[str]:
    """The instructions that multiply in what was compiled."""
    return set(re.findall(r"\b(?:wgmma\.mma_async|mma\.sync)[\w.]*", file.with_suffix(".ptx").read_text()))


@pytest.mark.parametrize(
    ("codec", "dim", "capability"),
    [(Codec.FLOAT8, 128, 90), (Codec.FLOAT32, 128, 90), (Codec.INT8, 96, 90), (Codec.INT8, 128, 80)],
)
def test_there_is_no_kernel_for(codec: Codec, dim: int, capability: int) -> None:
    assert one_warp_of(codec, dim, capability) is None


@pytest.mark.parametrize("codec", Codec)
def test_one_kernel_serves_a_batch(codec: Codec) -> None:
    found = kernels_of(codec, 128, 90).values()
    for batch, tokens in [(1, 1), (1, 32), (1, 33), (2, 32), (5, 32), (64, 64)]:
        by = [kernel for kernel in found if serves(kernel, batch, tokens)]
        assert len(by) <= 1
        assert any(isinstance(kernel, OneWarp) for kernel in by) == (
            batch == 1 and tokens <= 32 and one_warp_of(codec, 128, 90) is not None
        )
