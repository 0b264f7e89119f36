"""The GPU as the server sees it before it computes: driver, provider, memory, and kernels that were compiled ahead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tridex.common.nvidia import ask_driver
from tridex.encoding import load_cuda_provider
from tridex.index import MemoryBudget
from tridex.kernels import Codec
from tridex.serving.collections.device_memory import take

AHEAD = "kernels.compile_ahead(capability, 128, codecs)"
HERE = "kernels.warm_up('cuda', 128, codecs)"
PROGRAM = """
import json, sys
from tridex import kernels
codecs, capability = json.loads(sys.argv[1])
codecs = [kernels.Codec(codec) for codec in codecs]
"""


def test_the_driver_says_what_torch_says(device: torch.device) -> None:
    gpu = ask_driver().gpus[device.index]
    properties = torch.cuda.get_device_properties(device)
    assert (gpu.name, gpu.capability) == (properties.name, (properties.major, properties.minor))
    assert gpu.free_bytes is not None and 0 < gpu.free_bytes <= gpu.total_bytes
    assert abs(gpu.total_bytes - properties.total_memory) < 2**30


def test_the_provider_can_be_loaded() -> None:
    pytest.importorskip("onnxruntime")
    load_cuda_provider()


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.FLOAT8, Codec.INT8, Codec.RESIDUAL4])
def test_what_was_compiled_ahead_is_found(device: torch.device, tmp_path: Path, codec: Codec) -> None:
    major, minor = torch.cuda.get_device_capability(device)

    def run(call: str) -> set[Path]:
        argument = json.dumps([[codec.value], 10 * major + minor])
        variables = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, "-c", PROGRAM + call, argument], env=variables, check=True)
        return set(tmp_path.rglob("*.cubin"))

    ahead = run(AHEAD)
    assert ahead and run(HERE) == ahead


@pytest.mark.alone
def test_the_budget_is_taken_at_once_and_given_to_collections(device: torch.device) -> None:
    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info(device)
    budget = MemoryBudget(before // 4)
    take(budget, device)
    taken, _ = torch.cuda.mem_get_info(device)
    assert before - taken >= budget.size
    codes = [torch.empty(budget.segment_bytes // 2, dtype=torch.uint8, device=device) for _ in range(16)]
    assert torch.cuda.mem_get_info(device)[0] >= taken - 2**24, "they lie in what was taken"
    del codes
    torch.cuda.empty_cache()
