"""An eighth codec that only the table knows: whatever would have to read its codes refuses it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import triton
from maxsim_data import documents, queries
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks import maxsim_contenders, roofline
from tridex.kernels import Codec, Segment, explain, pack, rescore, search, supported_codecs
from tridex.kernels.codec import LAYOUTS, Layout
from tridex.kernels.codecs import DESCRIPTIONS, FloatCodec, Int8Codec
from tridex.kernels.cpu import backend as cpu
from tridex.kernels.cpu.codes import Reading
from tridex.kernels.cpu.kernels import score_blocks
from tridex.kernels.gpu import backend as gpu
from tridex.kernels.gpu import query_tile
from tridex.kernels.gpu.codes import load_operands
from tridex.kernels.scaling import scale_queries

UNKNOWN = {
    "another type": (Layout(8), FloatCodec(torch.float8_e5m2, peer_tolerance=1)),
    "float8's codes of another worth": (Layout(8), FloatCodec(torch.float8_e4m3fn, peer_tolerance=1, unit=16)),
    "residual4's codes without a codebook": (Layout(4, has_scales=True), Int8Codec(torch.int8, peer_tolerance=1)),
}


@pytest.fixture(params=UNKNOWN.values(), ids=UNKNOWN.keys())
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Codec:
    eighth = object.__new__(Codec)
    eighth._value_, eighth._name_ = "eighth", "EIGHTH"
    layout, description = request.param
    monkeypatch.setitem(LAYOUTS, eighth, layout)
    monkeypatch.setitem(DESCRIPTIONS, eighth, description)
    return eighth


def test_every_codec_has_a_description() -> None:
    assert DESCRIPTIONS.keys() == LAYOUTS.keys() == set(Codec)


def segment_of(codec: Codec) -> Segment:
    known = pack(documents([3, 40], 16), Codec.INT8)
    scales = known.scales if codec.layout.has_scales else None
    codes = known.codes[:, : codec.code_bytes(16)].contiguous()
    return Segment(codec, 16, codes, known.offsets, known.live, scales)


def test_a_cpu_refuses_it(codec: Codec) -> None:
    segment, query, rows = segment_of(codec), queries(1, 5, 16), torch.tensor([[0, 1]])
    assert not cpu.reads(codec)
    calls: list[Callable[[], Any]] = [
        lambda: search(query, segment, 1),
        lambda: rescore(query, segment, rows),
        lambda: explain(query, segment, rows),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"codec is eighth; expected one that the CPU's loops read: float32, .*"):
            call()


@pytest.mark.parametrize("reading", [Reading(99, 0, 16), Reading(1, 99, 16)])
def test_the_compiled_loops_refuse_what_they_have_no_branch_for(reading: Reading) -> None:
    segment, scaled = pack(documents([3], 16), Codec.FLOAT16), scale_queries(queries(1, 5, 16), torch.ones(1, 5).bool())
    packed = cpu._pack(scaled, 0, 1, segment, groups=1)
    _, tokens, offsets = cpu._described(segment)
    rows, blocks, counter = torch.zeros(1, 1).long().numpy(), torch.tensor([[0, 0, 1]]).numpy(), torch.zeros(1).long()
    scores = torch.zeros(1, 1).numpy()
    with pytest.raises(ValueError, match=r"reading\.(loader|words) is "):
        score_blocks(reading, tokens, offsets, packed, rows, blocks, counter.numpy(), scores)


def test_a_gpu_refuses_it_before_a_launch(codec: Codec) -> None:
    assert not gpu.reads(codec)
    with pytest.raises(ValueError, match=r"codec is eighth; expected one that the GPU's kernels read: float32, .*"):
        query_tile.constants(codec, 16, query_tile.QueryTile(2, 64, 4, 3, 2))


@triton.jit
def _read(p_codes, p_out, CODES: triton.language.constexpr):  # noqa: N803
    tokens = triton.language.arange(0, 16)
    operands = load_operands(p_codes, tokens, 0, None, tokens, None, CODES, 32, 32)
    triton.language.store(p_out + triton.language.arange(0, 32), triton.language.sum(operands[0], axis=0))


@pytest.mark.parametrize(("codes", "compiles"), [("float16", True), ("eighth", False)])
def test_the_device_code_refuses_what_it_has_no_branch_for(codes: str, compiles: bool) -> None:
    signature = {"p_codes": "*fp16", "p_out": "*fp16", "CODES": "constexpr"}
    source = ASTSource(fn=_read, signature=signature, constexprs={"CODES": codes})
    if compiles:
        triton.compile(source, target=GPUTarget("cuda", 80, 32))
    else:
        with pytest.raises(triton.CompilationError) as raised:
            triton.compile(source, target=GPUTarget("cuda", 80, 32))
        assert "CODES is none of those that code_constants returns" in str(raised.value.__cause__)


def test_no_device_says_that_it_reads_it(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tridex.kernels.operator.Codec", [*Codec, codec])
    assert supported_codecs(torch.device("cpu")) == supported_codecs(torch.device("cuda")) == tuple(Codec)


def test_the_benchmark_takes_it_for_no_other(codec: Codec) -> None:
    ceiling = roofline.Roofline(1e11, {"float32": 1e12, "bfloat16": 2e12, "int8": 4e12})
    if DESCRIPTIONS[codec].operand == torch.float8_e5m2:
        with pytest.raises(ValueError, match=r"codec eighth multiplies torch.float8_e5m2; expected one of torch.float"):
            ceiling.seconds(codec, read=1, flops=1)
    else:
        with pytest.raises(ValueError, match="codec is eighth; expected one whose codes are the numbers themselves"):
            maxsim_contenders.float_tokens(segment_of(codec))
