"""ONNX Runtime tells its maker nothing of what runs here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("imported", "tells"), [("tridex.encoding.onnx_encoder", False), ("onnxruntime", True)])
def test_no_device_id_and_no_queue_of_events_are_made(tmp_path: Path, imported: str, tells: bool) -> None:
    """The second case proves that the first would see them."""
    # Nothing else of the environment: ONNX Runtime keeps silent where that speaks of continuous integration.
    environment = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / ".cache")}
    subprocess.run([sys.executable, "-c", f"import {imported}"], env=environment, check=True)
    assert any(path.is_file() for path in tmp_path.rglob("*onnxruntime*/*")) == tells
