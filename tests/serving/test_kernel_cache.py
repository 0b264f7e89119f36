"""`tridex warm-up` compiles what a server with the same settings would, to where that looks for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tridex import kernels
from tridex.client.cli import create_app
from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import CollectionSpec, Document, Store
from tridex.kernels import Codec


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, list[Codec]]]:
    """What was compiled ahead: capability, dim and codecs."""
    calls: list[tuple[int, int, list[Codec]]] = []
    monkeypatch.setattr(kernels, "compile_ahead", lambda *call: calls.append(call))
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    return calls


@pytest.fixture
def warm_up(repository: Path, tmp_path: Path) -> Any:
    def run(*arguments: str) -> Result:
        options = ["warm-up", "--repository", str(repository), "--store", str(tmp_path / "store")]
        return CliRunner().invoke(create_app(), [*options, *arguments])

    return run


def test_codecs_that_are_named(warm_up: Any, compiled: list[Any], repository: Path, tmp_path: Path) -> None:
    result = warm_up("--gpu", "sm_90", "--gpu", "80", "--codec", "int8")
    assert result.exit_code == 0, result.output
    dim = load_artifact(latest_version_dir(repository / "encoder")).manifest.dim
    assert compiled == [(capability, dim, [Codec.FLOAT32, Codec.INT8]) for capability in (90, 80)]
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "kernel-cache")
    assert (tmp_path / "kernel-cache").stat().st_mode & 0o777 == 0o700


def test_codecs_of_the_store(warm_up: Any, compiled: list[Any], tmp_path: Path) -> None:
    collection = Store(tmp_path / "store").create("docs", CollectionSpec(dim=8, codec=Codec.FLOAT16, fingerprint="f"))
    collection.upsert([Document("1", "one", {})], [np.ones((1, 8), np.float32)])
    assert warm_up("--gpu", "sm_90", "--kernel-cache", str(tmp_path / "other")).exit_code == 0
    assert compiled[0][2] == [Codec.FLOAT16, Codec.FLOAT32]
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--gpu", "sm_75", "--codec", "int8"], 2, "--gpu is 'sm_75'; expected sm_80 or newer"),
        (["--gpu", "sm_90"], 1, "there is no collection in"),
        (["--gpu", "sm_90", "--codec", "int9"], 1, "--codec is 'int9'; expected one of: float32"),
        (["--device", "cpu", "--codec", "int8"], 1, "name a GPU, as --gpu sm_90"),
    ],
)
def test_what_cannot_be_compiled(
    warm_up: Any, compiled: list[Any], arguments: list[str], status: int, says: str
) -> None:
    result = warm_up(*arguments)
    assert (result.exit_code, compiled) == (status, []) and says in result.stderr
    assert len(result.stderr.splitlines()) == 1
