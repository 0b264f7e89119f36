"""The examples of RAG run, each in a process of its own, and show the prompt with the right passage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.passages import PASSAGES, QUESTION
from tridex.serving.server import TritonServer

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("example", ["rag_haystack", "rag_langchain", "rag_llama_index"])
def test_an_example_runs(example: str, server: TritonServer) -> None:
    assert len((EXAMPLES / f"{example}.py").read_text().splitlines()) < 60
    command = [sys.executable, "-m", f"examples.{example}", "--address", server.address]
    environment = {**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False"}
    done = subprocess.run(
        command, cwd=EXAMPLES.parent, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert PASSAGES["maxsim"] in done.stdout
    assert QUESTION in done.stdout
    assert PASSAGES["custard"] not in done.stdout
    assert "Exception" not in done.stderr  # of a channel that was left open, for instance
