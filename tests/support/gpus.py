"""Drivers and GPUs that this machine does not have."""

from __future__ import annotations

import pytest

from tridex.common import device
from tridex.common.nvidia import Driver, Gpu

GIB = 1 << 30
H200 = Gpu(0, "NVIDIA H200", (9, 0), 140 * GIB, 139 * GIB)
T4 = Gpu(0, "Tesla T4", (7, 5), 15 * GIB, 14 * GIB)


def driver(*gpus: Gpu, cuda: tuple[int, int] = (13, 0)) -> Driver:
    return Driver(cuda, "580.159.03", gpus or (H200,))


def install_gpu_packages(monkeypatch: pytest.MonkeyPatch, cuda: str = "13.0") -> None:
    """As `pip install 'tridex[gpu]'` does it, as far as device.py looks."""
    monkeypatch.setattr(device, "cuda_of_torch", lambda: cuda)
    monkeypatch.setattr(device, "check_triton", lambda: None)
    monkeypatch.setattr(device, "check_cuda_provider", lambda: None)
