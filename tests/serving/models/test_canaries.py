"""Each model's canary: answered as at the start while the model works, and an error when it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from service_requests import answers, upsert

from tridex.encoding import TokenBatch
from tridex.encoding.onnx_encoder import OnnxEncoder
from tridex.index import Collection
from tridex.serving.backend.canary import WrongAnswerError
from tridex.serving.backend.service import Context, RequestError
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.encoder import EncoderService
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


def broken(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Every encoder's embeddings are multiplied."""
    run = OnnxEncoder._run

    def wrong(batch: TokenBatch, session: Any) -> NDArray[np.float32]:
        return run(batch, session) * np.float32(factor)

    monkeypatch.setattr(OnnxEncoder, "_run", staticmethod(wrong))


def test_an_encoder_that_is_wrong_is_found_wherever_it_runs(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    services = [EncoderService(context), SearchService(context), IngestService(context)]
    try:
        for service in services:
            service.check()
            service.check()
        for factor in (float("nan"), 0.0, 0.5):
            with monkeypatch.context() as patch:
                broken(patch, factor)
                for service in services:
                    with pytest.raises((WrongAnswerError, RequestError)):
                        service.check()
        for service in services:
            service.check()
    finally:
        for service in services:
            service.close()


@pytest.mark.parametrize(("factor", "message"), [(float("nan"), "not finite"), (0.0, "are zeros")])
def test_a_service_whose_encoder_is_broken_from_the_start_does_not_start(
    context: Context, monkeypatch: pytest.MonkeyPatch, factor: float, message: str
) -> None:
    broken(monkeypatch, factor)
    with pytest.raises(WrongAnswerError, match=message):
        EncoderService(context)


def test_a_wrong_first_answer_is_not_what_later_ones_are_held_to(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = IngestService(context)
    try:
        for factor in (float("nan"), 0.0):
            with monkeypatch.context() as patch:
                broken(patch, factor)
                for _ in range(2):
                    with pytest.raises(WrongAnswerError):
                        ingest.check()
        ingest.check()
        ingest.check()
    finally:
        ingest.close()


def test_a_catalog_that_cannot_read_is_found(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = CatalogService(context)
    catalog.check()
    ingest = IngestService(context)
    try:
        (written,) = answers(ingest, [upsert("c", {"1": "a canary"})])
        assert not isinstance(written, RequestError)
    finally:
        ingest.close()
    catalog.check()

    def fails(*_: Any) -> int:
        raise RuntimeError("a poisoned lock")

    monkeypatch.setattr(Collection, "count", fails)
    with pytest.raises(RuntimeError, match="poisoned"):
        catalog.check()
