"""The one place that chooses what the encoder runs on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tridex.encoding import Artifact, UnknownDeviceError, create_encoder


def test_an_unknown_device_is_refused_before_the_graph_is_loaded() -> None:
    manifest: Any = None
    with pytest.raises(UnknownDeviceError, match=r"device is 'gpu'; expected cpu, cuda or cuda:N"):
        create_encoder(Artifact(Path("no-such-folder"), manifest), "gpu")


def test_a_gpu_that_is_not_there_is_refused() -> None:
    manifest: Any = SimpleNamespace(dim=128)
    with pytest.raises(
        UnknownDeviceError, match=r"device is 'cuda:99'; expected one of the \d+ CUDA devices that torch sees"
    ):
        create_encoder(Artifact(Path("no-such-folder"), manifest), "cuda:99")
