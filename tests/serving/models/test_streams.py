"""On a GPU, what reads embeddings is given to the stream that computes them: on another they may not be there yet."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from device_encoders import HostDeviceEncoder
from service_requests import answers, strings, upsert
from torch.nn.utils.rnn import pad_sequence

from tridex.serving.backend.service import Context, Request
from tridex.serving.models import search
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService


class Streams(threading.local):
    """Which streams a thread has entered."""

    entered = 0


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    """In place of a GPU's: torch knows none here."""
    streams = Streams()

    @contextmanager
    def on(_stream: Any) -> Iterator[None]:
        streams.entered += 1
        yield
        streams.entered -= 1

    monkeypatch.setattr(torch.cuda, "stream", on)
    return streams


def test_a_request_s_texts_are_put_together_on_the_stream(
    context: Context, monkeypatch: pytest.MonkeyPatch, streams: Streams
) -> None:
    ingest = IngestService(context)
    answers(ingest, [upsert("c", {"1": "red planet", "2": "blue moon"}, create_collection=True)])
    ingest.close()
    create_encoder = search.create_encoder
    monkeypatch.setattr(
        search, "create_encoder", lambda *args, **options: HostDeviceEncoder(create_encoder(*args, **options))
    )
    seen: list[bool] = []

    def padded(*args: Any, **options: Any) -> torch.Tensor:
        seen.append(streams.entered > 0)
        return pad_sequence(*args, **options)

    monkeypatch.setattr(search, "pad_sequence", padded)
    service = SearchService(context)
    try:
        (found,) = answers(service, [Request({"QUERY": strings("red planet", "moon")}, {"collection": "c"})])
    finally:
        service.close()
    assert isinstance(found, dict) and found["IDS"].shape[0] == 2
    assert seen == [True]
