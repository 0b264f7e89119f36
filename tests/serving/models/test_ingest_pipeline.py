"""Ingest encodes the next documents while the last ones are written, in calls that fit what the encoder runs on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from numpy.typing import NDArray
from service_requests import answers, upsert

from tridex.index import Collection, Store
from tridex.serving.backend.service import Arrays, Context, RequestError
from tridex.serving.models.ingest import IngestService

WORDS = "remove the directory of the capital on the river "


def test_documents_are_encoded_while_others_are_written(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    infer, write = context.infer, Collection.upsert
    writing, encoded = threading.Event(), threading.Event()
    found: list[bool] = []
    calls = count()

    def encode(model: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        if next(calls) and writing.wait(60):  # the first call has the whole of the first upsert
            encoded.set()
        return infer(model, inputs, outputs)

    def upsert_rows(*arguments: Any) -> int:
        writing.set()
        found.append(encoded.wait(60))
        return write(*arguments)

    ingest = IngestService(replace(context, infer=encode))
    monkeypatch.setattr(Collection, "upsert", upsert_rows)
    long = {f"b{i}": WORDS * 4 for i in range(200)}
    for result in ingest.answer([upsert("c", {"a": "where is Paris?"}), upsert("c", long)]):
        assert isinstance(result, Future) and not isinstance(result.result(100), RequestError)
    ingest.close()
    assert found == [True, True]
    assert Store(context.store).open("c").count() == 201


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 1024), ("cuda:0", 4096)])
def test_calls_of_so_many_tokens(context: Context, device: str, tokens: int) -> None:
    """The encoder's searches, or the other process on its GPU, wait for one call at most."""
    ingest = IngestService(replace(context, server_device=device))
    (written,) = answers(ingest, [upsert("c", {f"d{i}": WORDS * (1 + i % 4) for i in range(200)})])
    ingest.close()
    assert not isinstance(written, RequestError)
    sizes = [texts * width for texts, width in context.infer.shapes]  # type: ignore[attr-defined]
    assert max(sizes) <= tokens and (device == "cpu" or max(sizes) > 1024)
