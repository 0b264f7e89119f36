"""The console script where its streams do not take what it prints, and where it is interrupted."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tridex.client.cli import create_app
from tridex.common import strict_json

TRIDEX = Path(sys.executable).parent / "tridex"
ENCODINGS = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
FULL = "[Errno 28] No space left on device: 'standard output'"


@pytest.fixture
def shell(triton):
    """Runs a line of bash, in which $TRIDEX is the console script, against the fake server."""

    def run(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"TRIDEX_ADDRESS": triton.address, "TRIDEX": str(TRIDEX)} | variables
        command = ["bash", "-o", "pipefail", "-c", line]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)

    return run


@pytest.fixture
def hits(triton):
    """A server that finds more than a pipe holds, of letters beyond ASCII."""
    number = 400
    triton.answer = lambda _: {
        "IDS": [[f"ü{i}" for i in range(number)]],
        "SCORES": np.linspace(9, 1, number, dtype=np.float32)[None],
        "TEXTS": [["größer … " * 40] * number],
        "METADATA": [['{"n": 1e999}'] * number],
        "VERSION": np.array([[3]]),
    }


@pytest.mark.parametrize("options", ["", "--json"])
@pytest.mark.usefixtures("hits")
def test_a_full_disk_is_one_line(shell, options):
    done = shell(f"$TRIDEX search docs q {options} > /dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"tridex: {FULL}\n")


def test_help_on_a_full_disk_is_one_line(shell):
    done = shell("$TRIDEX --help > /dev/full")
    assert done.returncode == 1 and re.fullmatch(r"tridex: .*No space left on device.*\n", done.stderr)


@pytest.mark.usefixtures("hits")
def test_a_reader_that_is_gone_is_no_error_to_print(shell):
    done = shell("$TRIDEX search docs q | head -c 9")
    assert len(done.stdout) <= 9 and done.stderr == ""


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.usefixtures("hits")
def test_characters_that_the_stream_has_not_are_replaced(shell, encoding):
    done = shell("$TRIDEX search docs q", **encoding)
    assert done.returncode == 0 and done.stderr == ""
    assert "?399" in done.stdout and "gr??er" in done.stdout and done.stdout.isascii()


@pytest.mark.parametrize("where", ["/dev/full", "&-"])
def test_a_command_does_its_work_where_nobody_sees_its_progress(shell, triton, tmp_path, where):
    described = {"ROWS": [['{"name": "docs"}']]}
    triton.answer = lambda request: (
        described if request.model == "catalog" else {"VERSION": np.full((len(request.inputs["ID"]), 1), 1)}
    )
    (tmp_path / "docs.jsonl").write_text("".join(f'{{"id": "{i}", "text": "t"}}\n' for i in range(40)))
    done = shell(f"$TRIDEX index add {tmp_path}/docs.jsonl --collection docs --json 2>{where}")
    assert done.returncode == 0 and json.loads(done.stdout)["documents"] == 40
    assert len([request for request in triton.requests if request.model == "ingest"]) == 3


def test_an_error_that_nobody_sees_is_still_an_error(shell):
    done = shell("$TRIDEX search 'no name' q 2>/dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize(("how", "source"), [(signal.SIGINT, "file"), (signal.SIGTERM, "stdin")])
def test_an_interruption_says_what_is_written(triton, tmp_path, how, source):
    third = threading.Event()

    def answer(request):
        if request.model == "catalog":
            return {"ROWS": [['{"name": "docs"}']]}
        if sum(one.model == "ingest" for one in triton.requests) == 3:
            third.set()
            threading.Event().wait(2)
        return {"VERSION": np.full((len(request.inputs["ID"]), 1), 1)}

    triton.answer = answer
    (tmp_path / "docs.jsonl").write_text("".join(f'{{"id": "{i}", "text": "t"}}\n' for i in range(99)))
    command = ["index", "add", "docs.jsonl", "--collection", "docs"] if source == "file" else ["upsert", "docs"]
    with (tmp_path / "docs.jsonl").open() as stdin:
        process = subprocess.Popen(
            # As on a terminal: a shell that runs the tests in the background has its children ignore SIGINT.
            ["env", "--default-signal=INT", str(TRIDEX), *command, "--address", triton.address],
            cwd=tmp_path,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert third.wait(30)
    process.send_signal(how)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and out == "" and "Traceback" not in err
    assert err.splitlines()[-1] == (
        "tridex: interrupted: the first 32 documents are written to docs; running it again is harmless"
    )


@dataclass(frozen=True)
class Value:
    """As a result has them."""

    inside: Any


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.builds(Value, inner),
)


@given(VALUES)
def test_json_is_json_whatever_the_numbers(value):
    def plain(part: Any) -> Any:
        if isinstance(part, Value):
            return {"inside": plain(part.inside)}
        if isinstance(part, dict):
            return {name: plain(inner) for name, inner in part.items()}
        if isinstance(part, list):
            return [plain(inner) for inner in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    text = strict_json.dumps(value)
    assert text.isascii() and json.loads(text, parse_constant=refuse) == plain(value)


@pytest.mark.usefixtures("hits")
def test_what_a_command_prints_as_json_is_json(triton):
    done = CliRunner().invoke(create_app(), ["search", "docs", "q", "--json", "--address", triton.address])
    (first, *_) = json.loads(done.stdout, parse_constant=pytest.fail)["hits"]
    assert first["id"] == "ü0" and first["metadata"] == {"n": None}
