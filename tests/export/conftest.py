"""Checkpoints and their exports, each made once a session."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import checkpoints
import onnx
import pytest
from sentence_transformers import MultiVectorEncoder

from tridex.encoding import Artifact
from tridex.export import export_checkpoint, exporter
from tridex.export.precision import Precision


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny checkpoint, by its name in `checkpoints.VARIANTS`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return cache(lambda variant: checkpoints.make(folder, variant))


@pytest.fixture(scope="session")
def reference(checkpoint: Callable[[str], Path]) -> Callable[[str], MultiVectorEncoder]:
    """The oracle: Sentence Transformers on that checkpoint."""
    return cache(lambda variant: MultiVectorEncoder(str(checkpoint(variant)), device="cpu"))


@pytest.fixture(scope="session")
def exported(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Artifact]:
    """The checkpoint's export in a precision. Not to be changed by a test."""
    folder = tmp_path_factory.mktemp("exports")

    def export(variant: str, precision: str) -> Artifact:
        repository = folder / f"{variant}-{precision}"
        return export_checkpoint(str(checkpoint(variant)), repository=repository, precision=precision)

    return cache(export)


@pytest.fixture
def traced_once(exported: Callable[[str, str], Artifact], monkeypatch: pytest.MonkeyPatch) -> str:
    """For tests of what surrounds the graph: a checkpoint (its name) whose exports take the graph of an earlier one."""
    variant = "stanford_attended"

    def trace(_: MultiVectorEncoder, precision: Precision, _attention: str) -> onnx.ModelProto:
        return onnx.load(exported(variant, precision.value).model_path)

    # Made before the patch, or it would ask for itself.
    exported(variant, "fp32")
    monkeypatch.setattr(exporter, "trace", trace)
    return variant
