"""The client as a service installs it: alone, on numpy 2 (`make test` makes that environment)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tridex.client import Client
from tridex.serving.server import TritonServer

SCRIPT = Path(__file__).parents[1] / "support" / "light_client.py"


def test_numpy_2_sees_what_numpy_1_sees(server: TritonServer, client: Client) -> None:
    python = os.environ.get("TRIDEX_CLIENT_PYTHON")
    if python is None:
        pytest.fail("TRIDEX_CLIENT_PYTHON names no interpreter with the client alone; `make test` sets it")
    done = subprocess.run([python, str(SCRIPT), server.address, "light"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["numpy"].startswith("2.") and report["heavy"] == []
    here = [[hit.id, pytest.approx(hit.score), hit.metadata] for hit in client.search("light", "numpy version two")]
    assert report["by_text"] == here and report["by_embeddings"] == here
    assert [row[0] for row in here] == ["a", "b"] and report["reranked"] == [1, 0]
