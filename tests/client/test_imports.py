"""The client stays light: no torch, no transformers, no ONNX Runtime, whatever is installed beside it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "onnxruntime", "sentence_transformers", "tokenizers", "lance", "numba", "triton"}


@pytest.mark.parametrize(
    "program",
    [
        "import tridex.client",
        "import sys, tridex.client.cli\nsys.argv = ['tridex', '--help']\ntry: tridex.client.cli.main()\n"
        "except SystemExit as end: assert end.code == 0",
    ],
    ids=["import", "--help"],
)
def test_nothing_heavy_is_imported(program):
    report = f"{program}\nimport sys\nprint(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[]\n"
