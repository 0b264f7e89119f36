"""Everything that takes a query or a text and writes nothing: search, encode, rerank, in one process.

One encoder and one index in one process: a search crosses no process boundary between its text and its hits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.encoding import Artifact, TokenBatch, create_encoder, latest_version_dir, load_artifact
from tridex.kernels import Codec
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import SearchMode
from tridex.serving.backend.remote_encoder import RemoteEncoder
from tridex.serving.backend.scheduler import Encode, Encoded, Lane, Scheduler, Task
from tridex.serving.backend.service import (
    Arrays,
    Context,
    Request,
    RequestError,
    Result,
    Service,
    each,
    invalid,
)
from tridex.serving.backend.stage_times import StageTimes
from tridex.serving.modes.modes import read_mode
from tridex.serving.modes.searching import Searching
from tridex.serving.requests import fields as arguments

_KINDS = [
    {tensor.name for tensor in kind}
    for kind in (
        (models.QUERY, models.QUERY_EMBEDDINGS, models.QUERY_MASK, models.CANDIDATE_IDS),
        (models.QUERY_TO_ENCODE,),
        (models.DOCUMENT,),
        (models.QUERY_TO_RERANK, models.RERANK_TEXTS),
    )
]
"""The inputs of each kind of request."""


class SearchService(Service):
    """Answers by the inputs that a request has (protocol/models.py, SEARCH).

    QUERY, QUERY_EMBEDDINGS        a search: IDS, SCORES, TEXTS, METADATA [batch, hits] and VERSION [batch, 1]
    QUERY_TO_ENCODE, DOCUMENT      an encoding: EMBEDDINGS [batch, tokens, dim], EMBEDDING_MASK [batch, tokens]
    QUERY_TO_RERANK and DOCUMENTS  SCORES [1, texts], in the order of the texts
    """

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._rules = artifact.manifest.rules
        self._tokenizer = artifact.tokenizer()
        self._device = torch.device(context.device)
        self._searching = Searching(context, artifact)
        self._stage_times = StageTimes(context.metrics)
        kernels.warm_up(self._device, artifact.manifest.dim, codecs=(Codec.FLOAT32,))
        encode = _encoder(context, artifact)
        encode([self._tokenizer.queries(["warm up"])])
        self._searches = Lane(self._search, name="the search", default_wait_s=1.0, max_weight=limits.MAX_BATCH)
        self._encodings = Lane(self._finish_encodings, name="the encoder", default_wait_s=5.0, max_weight=1024)
        self._by_words = Lane(self._search, name="BM25", default_wait_s=2.0, max_weight=limits.MAX_BATCH)
        self._encoding = Scheduler(encode, (self._searches, self._encodings))
        # BM25 needs no encoder, and MaxSim does not wait for it.
        self._reading = Scheduler(encode, (self._by_words,))

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        with self._encoding.together(), self._reading.together():
            return each(requests, self._admit)

    def trouble(self) -> str | None:
        return self._encoding.trouble() or self._reading.trouble() or self._searching.trouble()

    def close(self) -> None:
        self._encoding.close()
        self._reading.close()
        self._searching.close()
        self._stage_times.close()

    def _admit(self, request: Request) -> Result:
        _check_kind(request)
        if request.get(models.QUERY_TO_ENCODE) is not None:
            return self._submit_encoding(request, arguments.texts(request, models.QUERY_TO_ENCODE), self._query)
        if request.get(models.DOCUMENT) is not None:
            return self._submit_encoding(request, arguments.texts(request, models.DOCUMENT), self._document)
        if request.get(models.QUERY_TO_RERANK) is not None:
            return self._submit_rerank(request)
        return self._submit_search(request)

    def _submit_search(self, request: Request) -> Future[Arrays | RequestError]:
        arguments.collection(request)
        top_k = arguments.top_k(request)
        mode = read_mode(request, top_k).mode
        embedded = request.get(models.QUERY_EMBEDDINGS)
        if embedded is not None:
            arguments.check_query_tokens(np.shape(embedded))
        encodes = embedded is None and mode is not SearchMode.BM25
        texts = arguments.texts(request, models.QUERY) if encodes or request.get(models.QUERY) is not None else []
        if mode is not SearchMode.MAXSIM:
            arguments.check_words(texts)
        rows = (self._query(text) for text in texts) if encodes else iter(())
        queries = len(texts) if embedded is None else len(embedded)
        if queries * top_k > limits.MAX_HITS:
            raise invalid(
                f"parameter {parameters.TOP_K} is {top_k} for {queries} queries; expected at most {limits.MAX_HITS} "
                f"hits in one request, {limits.MAX_HITS // queries} a query"
            )
        task = Task(request, rows, weight=queries, size=sum(map(len, texts)))
        if mode is SearchMode.BM25:
            return self._reading.submit(task, self._by_words)
        return self._encoding.submit(task, self._searches)

    def _search(self, tasks: Sequence[Task]) -> None:
        """One pass over the index, as far as their parameters allow, for all of these searches."""
        began = time.monotonic()
        results = self._searching.answer([_embedded(task) if task.encoded else task.request for task in tasks])
        scored = time.monotonic()
        for task, result in zip(tasks, results, strict=True):
            if isinstance(result, Future):
                result.add_done_callback(partial(_hand_over, task.answer))
            else:
                task.answer.set_result(result)
        self._stage_times.add("search", tasks, began, scored)

    def _submit_encoding(
        self, request: Request, texts: Sequence[str], tokenise: Callable[[str], TokenBatch]
    ) -> Future[Arrays | RequestError]:
        widest = limits.MAX_ANSWER_BYTES // (4 * self._rules.dim * len(texts))
        name = models.DOCUMENT.name if request.get(models.DOCUMENT) is not None else models.QUERY.name
        task = Task(request, _within(map(tokenise, texts), name, widest), _weight(texts), sum(map(len, texts)))
        return self._encoding.submit(task, self._encodings)

    def _submit_rerank(self, request: Request) -> Future[Arrays | RequestError]:
        query, *others = arguments.texts(request, models.QUERY_TO_RERANK)
        texts = arguments.texts(request, models.RERANK_TEXTS)
        if others:
            raise invalid(f"input {models.QUERY.name} holds {1 + len(others)} queries to rerank by; expected one")
        if not 0 < len(texts) <= limits.MAX_CANDIDATES:
            raise invalid(
                f"input {models.RERANK_TEXTS.name} holds {len(texts)} texts; expected 1 to {limits.MAX_CANDIDATES}"
            )

        def rows() -> Iterator[TokenBatch]:
            yield self._query(query)
            yield from _within(map(self._document, texts), models.RERANK_TEXTS.name)

        task = Task(request, rows(), _weight([query, *texts]), sum(map(len, texts)))
        return self._encoding.submit(task, self._encodings)

    def _finish_encodings(self, tasks: Sequence[Task]) -> None:
        began = time.monotonic()
        results = [self._scored_or_stacked(task) for task in tasks]
        scored = time.monotonic()
        for task, result in zip(tasks, results, strict=True):
            task.answer.set_result(result)
        self._stage_times.add("encode", tasks, began, scored)

    def _scored_or_stacked(self, task: Task) -> Arrays | RequestError:
        if task.request.get(models.QUERY_TO_RERANK) is None:
            return _stacked(task.encoded)
        try:
            return self._reranked(task.encoded)
        except RequestError as error:
            return error

    def _reranked(self, encoded: Sequence[Encoded]) -> Arrays:
        query, *documents = (one.scoring for one in encoded)
        if not len(query):
            raise invalid(f"input {models.QUERY.name} holds a text of which no token scores")
        segment = kernels.pack(documents, Codec.FLOAT32, self._device)
        rows = torch.arange(len(documents), device=self._device)[None]
        scores = kernels.rescore(torch.from_numpy(query)[None].to(self._device), segment, rows).cpu().numpy()
        mean = self._rules.similarity == "meanmaxsim"
        return {models.SCORES.name: scores / np.float32(len(query)) if mean else scores}

    def _query(self, text: str) -> TokenBatch:
        return self._tokenizer.queries([text])

    def _document(self, text: str) -> TokenBatch:
        return self._tokenizer.documents([text])


def _check_kind(request: Request) -> None:
    """Raises RequestError INVALID_ARGUMENT where the inputs are of several kinds of request, or of none."""
    if not any(request.inputs.keys() <= kind for kind in _KINDS):
        expected = "; or ".join(", ".join(sorted(kind)) for kind in _KINDS)
        raise invalid(f"inputs {', '.join(sorted(request.inputs))} are given together; expected some of: {expected}")


def _hand_over(answer: Future[Arrays | RequestError], done: Future[Arrays | RequestError]) -> None:
    answer.set_result(done.result())


def _encoder(context: Context, artifact: Artifact) -> Encode:
    """The encoder in this process; on a GPU, the one that Triton server has a backend for."""
    if context.device != "cpu":
        return RemoteEncoder(context.infer).encode_many
    return create_encoder(artifact, "cpu", threads=os.cpu_count() or 1).encode_many


def _weight(texts: Sequence[str]) -> int:
    """Of texts that are cut where the checkpoint's length ends."""
    return sum(1 + min(len(text), 2048) // 256 for text in texts)


def _within(rows: Iterator[TokenBatch], name: str, widest: int | None = None) -> Iterator[TokenBatch]:
    """The rows, as long as they keep to the limits of one request."""
    tokens = 0
    for row in rows:
        width = row.input_ids.shape[1]
        tokens += width
        if tokens > limits.MAX_ENCODED_TOKENS:
            raise invalid(
                f"input {name} holds texts of more than {limits.MAX_ENCODED_TOKENS} tokens; expected at most so many "
                "in one request: send fewer texts at a time"
            )
        if widest is not None and width > widest:
            raise invalid(
                f"input {name} holds a text of {width} tokens, so that the answer would have more than "
                f"{limits.MAX_ANSWER_BYTES} bytes; expected at most {widest} tokens: send fewer texts at a time"
            )
        yield row


def _stacked(encoded: Sequence[Encoded]) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    """The texts' embeddings as one tensor, each filled up with zeros."""
    width = max(len(one.mask) for one in encoded)
    embeddings = np.zeros((len(encoded), width, encoded[0].embeddings.shape[1]), np.float32)
    masks = np.zeros((len(encoded), width), np.int64)
    for row, one in enumerate(encoded):
        embeddings[row, : len(one.mask)] = one.embeddings
        masks[row, : len(one.mask)] = one.mask
    return {models.EMBEDDINGS.name: embeddings, models.EMBEDDING_MASK.name: masks}


def _embedded(task: Task) -> Request:
    """The task's request with its texts' embeddings."""
    tensors = _stacked(task.encoded)
    embedded = {
        models.QUERY_EMBEDDINGS.name: tensors[models.EMBEDDINGS.name],
        models.QUERY_MASK.name: tensors[models.EMBEDDING_MASK.name],
    }
    return replace(task.request, inputs={**task.request.inputs, **embedded})
