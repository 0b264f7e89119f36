"""The one place that chooses what the encoder runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tridex.encoding import Artifact, UnknownDeviceError, create_encoder


def test_an_unknown_device_is_refused_before_the_graph_is_loaded() -> None:
    manifest: Any = None
    with pytest.raises(UnknownDeviceError, match=r"device is 'gpu'; expected cpu or cuda:N"):
        create_encoder(Artifact(Path("no-such-folder"), manifest), "gpu")
