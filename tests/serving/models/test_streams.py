"""On a GPU, what reads embeddings is given to the stream that computes them: on another they may not be there yet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from service_requests import strings
from torch.nn.utils.rnn import pad_sequence

from tridex.serving.backend.lane import Encoded, Task
from tridex.serving.backend.service import Request
from tridex.serving.models import search
from tridex.serving.models.search import SearchService
from tridex.serving.requests.search import SearchRequest


class Engine:
    """In place of the search engine: keeps what it is given."""

    def start(self, requests: Sequence[SearchRequest]) -> Callable[[], list[Any]]:
        (self.request,) = requests
        return lambda: []


def test_a_request_s_texts_are_put_together_on_their_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[object] = []

    @contextmanager
    def on(stream: object) -> Iterator[None]:
        entered.append(stream)
        yield
        entered.pop()

    monkeypatch.setattr(torch.cuda, "stream", on)
    seen: list[list[object]] = []

    def padded(*arguments: Any, **options: Any) -> torch.Tensor:
        seen.append([*entered])
        return pad_sequence(*arguments, **options)

    monkeypatch.setattr(search, "pad_sequence", padded)
    stream, engine = object(), Engine()
    service = SearchService.__new__(SearchService)
    service.__dict__.update(_stream=stream, _engine=engine)
    request = SearchRequest.parse(Request({"QUERY": strings("red planet", "moon")}, {"collection": "c"}))
    task = Task(request, iter(()))
    task.encoded += [Encoded(torch.full((width, 4), width), np.ones(width, np.int64)) for width in (3, 2)]
    service._search([task])
    assert seen == [[stream]]
    assert engine.request.embeddings is not None
    assert engine.request.embeddings[:, :, 0].tolist() == [[3, 3, 3], [2, 2, 0]]
