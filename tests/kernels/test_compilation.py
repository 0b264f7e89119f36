"""Every kernel variant compiled ahead of time for an A100 (sm_80) and an H100 or H200 (sm_90); that needs no GPU."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tridex.kernels import Codec, device, launch

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024}
MMA = {80: "mma.sync.aligned.m16n8k16", 90: "wgmma.mma_async.sync.aligned.m64n64k16"}
POINTERS = {
    "p_mask": "*u8",
    "p_offsets": "*i64",
    "p_live": "*i32",
    "p_rows": "*i64",
    "p_sums": "*fp32",
    "p_keys": "*i64",
}
CALLERS = {"p_mask", "p_offsets", "p_live", "p_rows"}
"""Tensors of the caller, of any alignment: a kernel that is specialised on it would be compiled at request time."""
TYPES = {Codec.FLOAT32: "fp32", Codec.FLOAT16: "fp16", Codec.BFLOAT16: "bf16"}
VARIANTS = [
    *((device.score_documents, Codec.FLOAT16, dim) for dim in (48, 96, 256, 768)),
    (device.score_documents, Codec.FLOAT32, 96),
    *((kernel, codec, 128) for kernel in (device.score_documents, device.score_candidates) for codec in TYPES),
]


def compile_for(
    capability: int, kernel: Any, constants: dict[str, int], options: dict[str, int], codes: str = ""
) -> Any:
    """Compiles a kernel as launch.py has it compiled: integers of any value, only some pointers known to be aligned."""
    signature, attributes = {}, {}
    for i, parameter in enumerate(kernel.params):
        if parameter.name in constants:
            signature[parameter.name] = "constexpr"
        elif parameter.name.startswith("p_"):
            signature[parameter.name] = POINTERS.get(parameter.name, f"*{codes}")
            aligned = parameter.name not in CALLERS
            assert parameter.do_not_specialize_on_alignment != aligned, f"{parameter.name}: see CALLERS"
            if aligned:
                attributes[i,] = [["tt.divisibility", 16]]
        else:
            assert parameter.do_not_specialize, f"{parameter.name}: a new value would be compiled at request time"
            signature[parameter.name] = "i32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def assert_fits(compiled: Any, capability: int, cubin: Path) -> None:
    cubin.write_bytes(compiled.asm["cubin"])
    report = subprocess.run([CUOBJDUMP, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    used = {name: int(count) for name, count in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report)}
    assert used["REG"] <= 255
    assert (used["STACK"], used["LOCAL"]) == (0, 0), "registers spill"
    assert compiled.metadata.shared <= SHARED_MEMORY[capability]


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(("kernel", "codec", "dim"), VARIANTS, ids=lambda value: str(getattr(value, "value", value)))
def test_scoring_compiles_to_what_the_hardware_is_for(
    kernel: Any, codec: Codec, dim: int, capability: int, tmp_path: Path
) -> None:
    constants = launch.scoring_options(codec, dim)
    options = {name: constants.pop(name) for name in ("num_warps", "num_stages")}
    if kernel is device.score_documents:
        constants["BLOCK_DOCUMENTS"] = launch.BLOCK_DOCUMENTS
    compiled = compile_for(capability, kernel, constants, options, TYPES[codec])
    assert_fits(compiled, capability, tmp_path / "cubin")
    ptx = compiled.asm["ptx"]
    if codec is Codec.FLOAT32:
        assert "mma" not in ptx, "a tensor core would round float32 to TF32"
        assert "tf32" not in ptx
    else:
        assert MMA[capability] in ptx
    assert_addresses_are_64_bit(compiled.asm["ttir"], TYPES[codec].replace("fp", "f"))


def assert_addresses_are_64_bit(ttir: str, codes: str) -> None:
    """Query rows, document rows and sums are reached by int64 offsets; int32 ones are a dimension or a document."""
    blocks = re.findall(r"tt\.addptr .*: tensor<(\S+)x!tt\.ptr<(\S+)>>, tensor<\S+x(i\d+)>", ttir)
    rows = [offset for shape, pointee, offset in blocks if pointee == codes and shape.endswith("x1")]
    assert rows == ["i64", "i64"]
    sums = [offset for shape, pointee, offset in blocks if pointee == "f32" and "x" not in shape]
    assert "i64" in sums


@pytest.mark.parametrize("capability", [80, 90])
def test_selection_compiles(capability: int, tmp_path: Path) -> None:
    constants = {"BLOCK": launch.BLOCK_SELECT}
    compiled = compile_for(capability, device.select_documents, constants, {"num_warps": launch.SELECT_WARPS})
    assert_fits(compiled, capability, tmp_path / "cubin")
    offsets = re.findall(r"tt\.addptr .*: tensor<\S+x!tt\.ptr<f32>>, tensor<\S+x(i\d+)>", compiled.asm["ttir"])
    assert offsets == ["i64"]
