"""Services over a tiny random checkpoint, wired to each other as Triton server would wire them: fixtures that the
folders of tests import into their conftest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoints
import pytest
from numpy.typing import NDArray

from tridex.export import export_checkpoint
from tridex.protocol import models
from tridex.serving.backend.service import Arrays, Context, Request, RequestError
from tridex.serving.metrics.registry import Metrics
from tridex.serving.models.encoder import EncoderService

CHECKPOINT = "native_min_expansion"
"""Its similarity is the mean over the query's tokens; the end-to-end tests serve one whose similarity is the sum."""


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.make(tmp_path_factory.mktemp("checkpoint"), CHECKPOINT)


@pytest.fixture(scope="session")
def repository(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    export_checkpoint(str(checkpoint), repository=folder)
    return folder


@dataclass
class Encoder:
    """The server's encoder model, called in this process; remembers the shape of every call."""

    service: EncoderService
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, model: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        assert (model, list(outputs)) == (models.ENCODER.name, [models.EMBEDDINGS.name])
        self.shapes.append(inputs[models.INPUT_IDS.name].shape)
        (result,) = self.service.answer([Request(inputs)])
        assert not isinstance(result, RequestError)
        return dict(result)


@pytest.fixture
def context(repository: Path, tmp_path: Path) -> Context:
    store = tmp_path / "store"
    store.mkdir()

    def no_infer(*_: Any) -> dict[str, NDArray[Any]]:
        raise AssertionError("the encoder calls no other model")

    encoder = EncoderService(Context(repository, "cpu", store, no_infer, Metrics()))
    return Context(repository, "cpu", store, Encoder(encoder), Metrics())
