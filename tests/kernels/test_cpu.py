"""What the CPU's backend promises beyond the operator: explanations, one result on every CPU, one compilation."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tridex.kernels import Codebook, Codec, Segment, encode, explain, pack, pack_bitmap, reference, rescore, search
from tridex.kernels.cpu.kernels import explain_rows, score_blocks

LENGTHS = [0, 1, 15, 16, 17, 300, 63, 64, 65, 127, 128, 129, 2]


def segment(codec: Codec, dim: int, lengths: list[int] = LENGTHS) -> Segment:
    rng = np.random.default_rng(0)
    docs = [rng.standard_normal((length, dim), np.float32) / np.float32(dim**0.5 * 2) for length in lengths]
    book = None
    if codec.residual_bits:
        centroids = torch.nn.functional.normalize(torch.from_numpy(docs[5][:100]), dim=-1)
        book = Codebook.rounded(centroids, torch.linspace(-0.5, 0.5, 2**codec.residual_bits))
    return pack(docs, codec, codebook=book)


def queries(batch: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand((batch, tokens), generator=generator) < 0.8
    return torch.randn((batch, tokens, dim), generator=generator) / dim**0.5, mask


@pytest.mark.parametrize("codec", Codec)
def test_an_explanation_says_which_token_was_the_nearest(codec: Codec) -> None:
    stored = segment(codec, 64).with_live(pack_bitmap(np.arange(len(LENGTHS)) != 3))
    query, mask = queries(3, 40, 64)
    rows = torch.tensor([[5, 0, 3, -1], [11, 2, 1, 99], [5, 5, 12, 4]])
    tokens, similarities = explain(query, stored, rows, mask)
    expected_tokens, expected = reference.explain(query, stored, rows, mask)
    assert torch.equal(tokens, expected_tokens)
    torch.testing.assert_close(similarities.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(similarities.sum(dim=2), rescore(query, stored, rows, mask), rtol=1e-6, atol=1e-6)


def test_the_lowest_of_equal_tokens_explains() -> None:
    token = np.array([[1, 0]], np.float32)
    other = np.array([[0, 1]], np.float32)
    stored = pack([np.concatenate([other, token, token])], Codec.FLOAT16)
    tokens, similarities = explain(
        torch.tensor([[[1.0, 0], [0, -1], [0, 0]]]), stored, torch.tensor([[0]]), torch.tensor([[True, True, False]])
    )
    assert tokens.tolist() == [[[1, 1, -1]]]
    assert similarities.tolist() == [[[1, 0, 0]]]


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("dim", [1, 2, 3, 17, 16, 32, 80])
def test_every_dim_is_scored(codec: Codec, dim: int) -> None:
    if codec.residual_bits and dim % 16:
        with pytest.raises(ValueError, match=f"dim is {dim}; expected a multiple of 16"):
            segment(codec, dim)
        return
    stored = segment(codec, dim)
    query, mask = queries(2, 20, dim)
    scores, rows = search(query, stored, 12, mask)
    expected = reference.score(query, stored, mask)
    torch.testing.assert_close(scores.double(), expected.gather(1, rows), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scores.double(), expected.sort(descending=True).values[:, :12], rtol=1e-5, atol=1e-5)


def test_nothing_is_read_behind_the_last_token() -> None:
    """The codes of one token lie before a page that may not be read."""
    import ctypes
    import mmap

    for codec in (Codec.FLOAT32, Codec.BFLOAT16):
        row = encode(codec, np.ones((1, 128), np.float32))
        pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
        memory = np.frombuffer(pages, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        behind = ctypes.c_void_p(memory.ctypes.data + mmap.PAGESIZE)
        assert libc.mprotect(behind, mmap.PAGESIZE, 0) == 0
        codes = memory[mmap.PAGESIZE - row.size : mmap.PAGESIZE].reshape(row.shape)
        codes[:] = row
        stored = Segment.from_numpy(codec, 128, codes, np.array([0, 1]))
        assert search(torch.ones(1, 1, 128), stored, 1)[0].tolist() == [[128.0]]


def test_long_queries_take_several_passes() -> None:
    stored = segment(Codec.RESIDUAL4, 32)
    query, _ = queries(3, 300, 32)
    mask = torch.arange(300) < torch.tensor([[300], [100], [200]])
    scores, rows = search(query, stored, 5, mask)
    expected_scores, expected_rows = reference.search(query, stored, 5, mask)
    torch.testing.assert_close(scores.double(), expected_scores, rtol=1e-5, atol=1e-4)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(rescore(query, stored, rows, mask), scores)


def test_one_compilation_serves_every_codec_and_shape() -> None:
    for codec in Codec:
        for dim in (32, 64):
            for shape in ((1, 1), (3, 40)):
                stored = segment(codec, dim)
                query, mask = queries(*shape, dim)
                rows = search(query, stored, 5, mask)[1]
                rescore(query, stored, rows, mask)
                explain(query, stored, rows, mask)
    assert len(score_blocks.signatures) == 1
    assert len(explain_rows.signatures) == 1


_SCORES = """
import sys, torch
sys.path.insert(0, sys.argv[1])
import test_cpu
torch.save(test_cpu.scores_of_every_codec(), sys.argv[2])
"""


def scores_of_every_codec() -> dict[str, torch.Tensor]:
    query, mask = queries(3, 20, 48)
    rows = torch.arange(len(LENGTHS)).expand(3, -1)
    return {codec.value: rescore(query, segment(codec, 48), rows, mask) for codec in Codec}


@pytest.mark.skipif(not sys.platform.startswith("linux") or os.uname().machine != "x86_64", reason="of x86's features")
def test_a_cpu_without_avx512_gives_the_same_scores(tmp_path: Path) -> None:
    """Bit for bit where both multiply the same numbers in the same order; bfloat16's instruction adds in another."""
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma"}
    command = [sys.executable, "-c", _SCORES, str(Path(__file__).parent), str(tmp_path / "scores")]
    subprocess.run(command, env=environment, check=True, timeout=120)
    there, here = torch.load(tmp_path / "scores"), scores_of_every_codec()
    for codec in Codec:
        if codec in (Codec.BFLOAT16, Codec.FLOAT8):
            torch.testing.assert_close(there[codec.value], here[codec.value], rtol=1e-6, atol=1e-5)
        else:
            assert torch.equal(there[codec.value], here[codec.value]), codec


_ASSEMBLY = """
import tridex.kernels.cpu.register_tile
from llvmlite import binding
module = binding.parse_assembly('define void @f() { call void asm sideeffect "nop", "" () ret void }')
module.triple = binding.get_default_triple()
print(len(binding.Target.from_default_triple().create_target_machine().emit_object(module)))
"""


def test_assembly_that_numbas_cache_has_can_be_compiled_into_what_it_has_not() -> None:
    """A start that is ended while it compiles leaves such a cache, and LLVM ends a process that cannot."""
    done = subprocess.run([sys.executable, "-c", _ASSEMBLY], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr
