"""What a probe's process cannot do to the process that serves: a device on which a child's kernel fails or hangs."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch

from tridex.kernels import Codec, warm_up
from tridex.kernels.gpu.gluon import verdict
from tridex.kernels.gpu.gluon.roles import BATCHES, SINGLE_QUERIES, kernels_of
from tridex.kernels.gpu.query_tile import capability_of

KINDS = [BATCHES, SINGLE_QUERIES]
BEGINS = "import torch; torch.zeros(1, device='cuda'); print('ready\\nlaunched', flush=True); "
FAILS = BEGINS + "torch._assert_async(torch.zeros(1, device='cuda')); torch.cuda.synchronize(); print('agrees')"
HANGS = BEGINS + "torch.cuda._sleep(1 << 60); torch.cuda.synchronize(); print('agrees')"


@pytest.mark.parametrize("program", [FAILS, HANGS])
def test_a_kernel_that_fails_or_hangs_in_the_child_leaves_the_device_to_this_process(
    program: str, device: torch.device
) -> None:
    before = torch.arange(1000, device=device)
    found, is_the_kernels = verdict.ask_child([sys.executable, "-c", program], 30.0)
    assert is_the_kernels and not found.agrees
    assert int(before.sum()) == 499_500
    assert int(torch.ones(1000, device=device).sum()) == 1000


def test_the_second_start_does_not_ask_again(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not kernels_of(Codec.INT8, 128, capability_of(device)):
        pytest.skip("needs an H100 or H200: there is no Gluon kernel for this device")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    with caplog.at_level(logging.INFO):
        warm_up(device, 128, [Codec.INT8])
        assert all(verdict.is_chosen(kind, device, Codec.INT8) for kind in KINDS), caplog.text
        monkeypatch.setattr(verdict, "_chosen", set())
        monkeypatch.setattr(verdict, "_command", lambda *_: pytest.fail("a child was asked"))
        warm_up(device, 128, [Codec.INT8])
    assert all(verdict.is_chosen(kind, device, Codec.INT8) for kind in KINDS)
    assert sum("the Gluon kernel serves" in line for line in caplog.messages) == 2 * len(KINDS)
