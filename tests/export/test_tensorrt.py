"""The engine's build, with a stand-in for trtexec: there is no TensorRT where these tests run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tridex.encoding import load_artifact
from tridex.export import TensorRTError, export_checkpoint, tensorrt

Checkpoint = Callable[[str], Path]


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(tensorrt, "_CONTAINER_PATH", tmp_path / "no-container")
    return folder


def put_trtexec(folder: Path, script: str) -> None:
    path = folder / "trtexec"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.usefixtures("path_folder")
def test_without_trtexec(checkpoint: Checkpoint, traced_once: str, tmp_path: Path) -> None:
    with pytest.raises(TensorRTError, match=r"trtexec is neither on PATH nor at .*NVIDIA's Triton server"):
        export_checkpoint(str(checkpoint(traced_once)), repository=tmp_path / "repository", tensorrt=True)
    assert not (tmp_path / "repository").exists()


def test_int8_is_not_for_tensorrt(checkpoint: Checkpoint, traced_once: str) -> None:
    with pytest.raises(TensorRTError, match="int8 is for CPUs"):
        export_checkpoint(str(checkpoint(traced_once)), precision="int8", tensorrt=True)


def test_engine_is_published_with_its_profile(
    checkpoint: Checkpoint, traced_once: str, path_folder: Path, tmp_path: Path
) -> None:
    put_trtexec(
        path_folder,
        f'printf "%s\\n" "$@" > {tmp_path}/arguments; for a in "$@"; do case $a in --saveEngine=*) '
        'echo engine > "${a#--saveEngine=}";; esac; done',
    )
    artifact = export_checkpoint(str(checkpoint(traced_once)), repository=tmp_path / "repository", tensorrt=True)
    assert (artifact.directory / "model.plan").read_text() == "engine\n"
    assert "model.plan" in load_artifact(artifact.directory).manifest.files
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert "--minShapes=INPUT_IDS:1x1,ATTENTION_MASK:1x1,EMBEDDING_MASK:1x1" in arguments
    assert "--maxShapes=INPUT_IDS:64x50,ATTENTION_MASK:64x50,EMBEDDING_MASK:64x50" in arguments


def test_failing_build_publishes_nothing(
    checkpoint: Checkpoint, traced_once: str, path_folder: Path, tmp_path: Path
) -> None:
    put_trtexec(path_folder, "echo out of memory >&2; exit 3")
    with pytest.raises(TensorRTError, match=r"trtexec failed with status 3:\nout of memory"):
        export_checkpoint(str(checkpoint(traced_once)), repository=tmp_path / "repository", tensorrt=True)
    assert list((tmp_path / "repository" / "encoder").iterdir()) == []
