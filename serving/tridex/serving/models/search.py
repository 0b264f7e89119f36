"""Everything that takes a query or a text and writes nothing: search, encode, rerank, in one process.

One encoder and one index in one process: a search crosses no process boundary between its text and its hits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from tridex import kernels
from tridex.encoding import DeviceEncoder, TokenBatch, create_encoder, latest_version_dir, load_artifact
from tridex.kernels import Codec
from tridex.protocol import limits, models
from tridex.serving.backend.canary import FirstAnswer
from tridex.serving.backend.lane import UNIT_TOKENS, Encoded, Lane, Task, Wait
from tridex.serving.backend.query_tokens import QueryTokens
from tridex.serving.backend.scheduler import Scheduler
from tridex.serving.backend.service import (
    Arrays,
    Context,
    Request,
    RequestError,
    Result,
    Sender,
    Service,
    each,
    invalid,
)
from tridex.serving.engine.explanations import Explainer
from tridex.serving.engine.search_engine import SearchEngine
from tridex.serving.gate import GateLane
from tridex.serving.metrics.table import Stage
from tridex.serving.requests.encode import EncodeRequest
from tridex.serving.requests.rerank import RerankRequest
from tridex.serving.requests.search import SearchRequest

_Parsed = SearchRequest | EncodeRequest | RerankRequest
_EncodingTask = Task[EncodeRequest | RerankRequest]

_PARSERS: list[tuple[set[str], Callable[[Request], _Parsed]]] = [
    ({tensor.name for tensor in inputs}, parse)
    for inputs, parse in (
        ((models.QUERY, models.QUERY_EMBEDDINGS, models.QUERY_MASK, models.CANDIDATE_IDS), SearchRequest.parse),
        ((models.QUERY_TO_ENCODE,), EncodeRequest.parse_queries),
        ((models.DOCUMENT,), EncodeRequest.parse_documents),
        ((models.QUERY_TO_RERANK, models.RERANK_TEXTS), RerankRequest.parse),
    )
]
"""The inputs of each kind of request, and its parser."""


_GPU_UNIT_TOKENS = 2048
"""Padded tokens: a batch of 64 short queries, which took 8 ms on an H200, of which 1 ms encoding."""


class SearchService(Service):
    """Answers by the inputs that a request has (protocol/models.py, SEARCH).

    QUERY, QUERY_EMBEDDINGS        a search: IDS, SCORES, TEXTS, METADATA, EXPLANATIONS [batch, hits] and VERSION
                                   [batch, 1]
    QUERY_TO_ENCODE, DOCUMENT      an encoding: EMBEDDINGS [batch, tokens, dim], EMBEDDING_MASK [batch, tokens]
    QUERY_TO_RERANK and DOCUMENTS  SCORES [1, texts], in the order of the texts
    """

    def __init__(self, context: Context) -> None:
        artifact = load_artifact(latest_version_dir(context.repository / models.ENCODER.name))
        self._rules = artifact.manifest.rules
        self._tokenizer = artifact.tokenizer()
        self._query_tokens = QueryTokens(self._tokenizer)
        self._device = torch.device(context.device)
        # One stream for encoding and searching: each reads what the one before it has made, and nobody waits.
        self._stream: torch.cuda.Stream | None = None
        if self._device.type == "cuda":
            self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            encoder = create_encoder(
                artifact,
                context.device,
                threads=os.cpu_count() or 1,
                tensorrt=context.tensorrt,
                shared=context.shared,
            )
        encode = encode_queries = encoder.encode_many
        if isinstance(encoder, DeviceEncoder):
            encoder.capture(self._rules.query.length)
            encode_queries = encoder.encode_on_device
        explainer = Explainer(artifact.manifest, self._tokenizer, encode)
        self._engine = SearchEngine(context, artifact, explainer, self._stream)
        # Texts are reranked in float32.
        kernels.warm_up(self._device, artifact.manifest.dim, (Codec.FLOAT32,), ("rescore",))
        encode_queries([self._tokenizer.queries(["warm up"])])
        self._searches = Lane(
            self._search,
            name="the search",
            label="search",
            default_wait_s=1.0,
            max_weight=limits.MAX_BATCH,
            door=context.gate(GateLane.SEARCH),
            encode=encode_queries,
        )
        self._encodings = Lane(
            self._finish_encodings,
            name="the encoder",
            label="encode",
            default_wait_s=5.0,
            max_weight=1024,
            door=context.gate(GateLane.ENCODING),
        )
        self._text_searches = Lane(
            self._search,
            name="BM25",
            label="bm25",
            default_wait_s=2.0,
            max_weight=limits.MAX_BATCH,
            door=context.gate(GateLane.BM25),
        )
        self._explained_searches = Lane(
            self._search, name="explanations", label="explain", default_wait_s=2.0, max_weight=limits.MAX_BATCH
        )
        unit_tokens = UNIT_TOKENS if self._stream is None else _GPU_UNIT_TOKENS
        self._scheduler = Scheduler(encode, (self._searches, self._encodings), unit_tokens)
        # Searches that need no embeddings: MaxSim does not wait for BM25.
        self._text_scheduler = Scheduler(encode, (self._text_searches,))
        # Explaining tokenises again, and encodes where a collection pools: other searches do not wait for that.
        self._explaining_scheduler = Scheduler(encode, (self._explained_searches,))
        self._schedulers = (self._scheduler, self._text_scheduler, self._explaining_scheduler)
        for scheduler in self._schedulers:
            context.metrics.gauges(scheduler.gauges)
        self._submit: dict[type[_Parsed], Callable[[Any], Future[Arrays | RequestError]]] = {
            SearchRequest: self._submit_search,
            EncodeRequest: self._submit_encoding,
            RerankRequest: self._submit_rerank,
        }
        self._first_answer = FirstAnswer()
        self.check()

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        parsed = each(requests, _parse)
        with ExitStack() as together:
            for scheduler in self._schedulers:
                together.enter_context(scheduler.together())
            return each(parsed, self._admit)

    def trouble(self) -> str | None:
        return next(filter(None, (part.trouble() for part in (*self._schedulers, self._engine))), None)

    def check(self) -> None:
        """Tokenises, encodes and scores."""
        self._first_answer.check(self._canary_scores())

    def close(self) -> None:
        for scheduler in self._schedulers:
            scheduler.close()
        self._engine.close()

    def _canary_scores(self) -> NDArray[np.float32]:
        request = RerankRequest(Sender(), "warm up", ["warm up", "a canary"])
        result = self._submit_rerank(request, is_canary=True).result()
        if isinstance(result, RequestError):
            raise result
        scores: NDArray[np.float32] = result[models.SCORES.name]
        return scores

    def _admit(self, request: _Parsed | RequestError) -> Result:
        if isinstance(request, RequestError):
            return request
        return self._submit[type(request)](request)

    def _submit_search(self, request: SearchRequest) -> Future[Arrays | RequestError]:
        rows = self._query_tokens.rows(request.texts if request.must_be_encoded else [])
        weight = request.queries * (1 + request.explained)
        task = Task(request, rows, weight=weight, size=sum(map(len, request.texts)))
        if request.explained:
            return self._explaining_scheduler.submit(task, self._explained_searches)
        if request.mode.needs_embeddings:
            return self._scheduler.submit(task, self._searches)
        return self._text_scheduler.submit(task, self._text_searches)

    def _search(self, tasks: Sequence[Task[SearchRequest]]) -> Wait | None:
        """One pass over the index, as far as their parameters allow, for all of these searches."""
        with torch.cuda.stream(self._stream):  # behind what computes the embeddings
            requests = [
                task.request.encoded(*_stacked(task.encoded)) if task.encoded else task.request for task in tasks
            ]
        wait = self._engine.start(requests)

        def answer() -> None:
            for task, result in zip(tasks, wait(), strict=True):
                if isinstance(result, Future):
                    result.add_done_callback(partial(_hand_over, task.answer))
                else:
                    task.answer.set_result(result)

        if self._stream is None:
            answer()  # Nothing goes on meanwhile.
            return None
        return answer

    def _submit_encoding(self, request: EncodeRequest) -> Future[Arrays | RequestError]:
        texts = request.texts
        widest = limits.MAX_ANSWER_BYTES // (4 * self._rules.dim * len(texts))
        rows = _within(map(self._query if request.as_queries else self._document, texts), request.input_name, widest)
        task = _EncodingTask(request, rows, _weight(texts), sum(map(len, texts)))
        return self._scheduler.submit(task, self._encodings)

    def _submit_rerank(self, request: RerankRequest, *, is_canary: bool = False) -> Future[Arrays | RequestError]:
        def rows() -> Iterator[TokenBatch]:
            yield self._query(request.query)
            yield from _within(map(self._document, request.texts), models.RERANK_TEXTS.name)

        weight = _weight([request.query, *request.texts])
        task = _EncodingTask(request, rows(), weight, sum(map(len, request.texts)), is_canary=is_canary)
        return self._scheduler.submit(task, self._encodings)

    def _finish_encodings(self, tasks: Sequence[_EncodingTask]) -> None:
        results = [self._encoded_answer(task) for task in tasks]
        for task, result in zip(tasks, results, strict=True):
            task.answer.set_result(result)

    def _encoded_answer(self, task: _EncodingTask) -> Arrays | RequestError:
        if isinstance(task.request, EncodeRequest):
            embeddings, mask = _stacked(task.encoded)
            return {models.EMBEDDINGS.name: embeddings, models.EMBEDDING_MASK.name: mask}
        try:
            with task.request.sender.timeline.stage(Stage.SCORE):
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


def _parse(request: Request) -> _Parsed:
    """Raises RequestError INVALID_ARGUMENT, also where the inputs are of several kinds of request."""
    for names, parse in _PARSERS:
        if request.inputs.keys() <= names:
            return parse(request)
    expected = "; or ".join(", ".join(sorted(names)) for names, _ in _PARSERS)
    raise invalid(f"inputs {', '.join(sorted(request.inputs))} are given together; expected some of: {expected}")


def _hand_over(answer: Future[Arrays | RequestError], done: Future[Arrays | RequestError]) -> None:
    answer.set_result(done.result())


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


def _stacked(encoded: Sequence[Encoded]) -> tuple[Any, NDArray[np.int64]]:
    """The texts' embeddings, [texts, tokens, dim], and their mask, [texts, tokens], padded with zeros."""
    width = max(len(one.embeddings) for one in encoded)
    masks = np.zeros((len(encoded), width), np.int64)
    for row, one in enumerate(encoded):
        masks[row, : len(one.mask)] = one.mask
    if len(encoded) == 1:
        return encoded[0].embeddings[None], masks
    if isinstance(encoded[0].embeddings, torch.Tensor):
        return pad_sequence([one.embeddings for one in encoded], batch_first=True), masks
    embeddings = np.zeros((len(encoded), width, encoded[0].embeddings.shape[1]), np.float32)
    for row, one in enumerate(encoded):
        embeddings[row, : len(one.embeddings)] = one.embeddings
    return embeddings, masks
