"""Who is measured: Tridex, plain torch and maxsim-cpu; the GPU libraries are in maxsim_gpu_contenders.py.

Each contender is a callable without arguments: whatever a server would hold ready (documents in the library's layout,
queries in its type) is made before. A search returns the top_k of each query, a rerank the scores of its candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.common.cuda_graphs import record
from tridex.kernels import Codec, SearchPlan, Segment
from tridex.kernels.codecs import DESCRIPTIONS

from .maxsim_corpus import Corpus

TOP_K = 10
CANDIDATES = 1000

REPLAYED = ", replayed"
"""At the end of a form of ours: captured before as a CUDA graph."""

Result = tuple[torch.Tensor, torch.Tensor]
"""Scores and rows, both [batch, TOP_K] of a search or [batch, candidates] of a rerank."""

_SEGMENT_MAXIMUM = {"cpu": "scatter_reduce", "cuda": "segment_reduce"}
"""On the CPU segment_reduce is 8 times as slow as scatter_reduce and index_reduce 5 times; on a GPU scatter_reduce
needs atomics."""


@dataclass(frozen=True)
class Contender:
    """One way to compute one cell of the table."""

    library: str
    form: str
    precision: Codec
    """What it keeps the documents' tokens in."""
    call: Callable[[], Result]


def ours(corpus: Corpus, queries: torch.Tensor) -> Iterator[Contender]:
    """A search by Tridex in every codec."""
    for codec, segment in corpus.segments.items():
        yield Contender("tridex", "search", codec, partial(kernels.search, queries, segment, TOP_K))


def our_rerank(corpus: Corpus, queries: torch.Tensor, rows: torch.Tensor) -> Iterator[Contender]:
    """A rerank by Tridex in every codec."""

    def rescore(segment: Segment) -> Result:
        return kernels.rescore(queries, segment, rows), rows

    for codec, segment in corpus.segments.items():
        yield Contender("tridex", "rescore", codec, partial(rescore, segment))


def our_search_replayed(corpus: Corpus, queries: torch.Tensor) -> Iterator[Contender]:
    """`ours` as a server asks on a GPU where a shape comes often: replays of what was captured before."""
    batch, tokens, _ = queries.shape
    every = torch.ones((batch, tokens), dtype=torch.bool, device=queries.device)
    for codec, segment in corpus.segments.items():
        plan = SearchPlan(segment, batch, tokens, TOP_K)
        yield Contender("tridex", f"search{REPLAYED}", codec, partial(plan.search, queries, every))


def our_rerank_replayed(corpus: Corpus, queries: torch.Tensor, rows: torch.Tensor) -> Iterator[Contender]:
    """`our_rerank`, captured and replayed on a GPU."""
    for launched in our_rerank(corpus, queries, rows):
        yield Contender("tridex", launched.form + REPLAYED, launched.precision, captured(launched.call))


def captured(call: Callable[[], Result]) -> Callable[[], Result]:
    """A call on a GPU as a CUDA graph's replay, which writes over its results. The call has compiled what it needs."""
    # The default stream cannot be recorded.
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        graph, results = record(call)

    def replay() -> Result:
        graph.replay()
        return results

    return replay


def torch_search(corpus: Corpus, queries: torch.Tensor, codec: Codec) -> Iterator[Contender]:
    """Plain torch over documents padded to one length per block, and over packed tokens.

    Blocks keep the similarities in the CPU's cache (4 MB measured best of 1 to 50 MB) and in the GPU's memory.
    """
    segment = corpus.segments[codec]
    on_gpu = segment.device.type == "cuda"
    tokens = float_tokens(segment)
    batch = len(queries)
    asked = queries.to(tokens.dtype).flatten(0, 1)
    block_tokens = (512 << 20 if on_gpu else 4 << 20) // (len(asked) * tokens.dtype.itemsize)
    order, blocks = padded_blocks(segment, tokens, block_tokens, keep_order=not corpus.shape.ragged)

    def documents_first() -> Result:
        best = [torch.einsum("ntd,qd->ntq", block, asked).amax(1).T for block in blocks]
        return _top_k(torch.cat(best, dim=1), batch, order)

    def queries_first() -> Result:
        best = [torch.einsum("qd,ntd->qnt", asked, block).amax(2) for block in blocks]
        return _top_k(torch.cat(best, dim=1), batch, order)

    yield Contender("torch", "padded einsum, ntq", codec, documents_first)
    yield Contender("torch", "padded einsum, qnt", codec, queries_first)

    packed = packed_blocks(segment.offsets, block_tokens)

    def by_segments() -> Result:
        best = [segment_maximum(tokens[part] @ asked.T, offsets).T for part, offsets in packed]
        return _top_k(torch.cat(best, dim=1), batch)

    yield Contender("torch", f"packed matmul, {_SEGMENT_MAXIMUM[segment.device.type]}", codec, by_segments)


def torch_rerank(corpus: Corpus, queries: torch.Tensor, rows: torch.Tensor, codec: Codec) -> Iterator[Contender]:
    """Plain torch: the candidates' tokens gathered, padded to one length or packed, then multiplied."""
    segment = corpus.segments[codec]
    tokens = float_tokens(segment)
    asked = queries.to(tokens.dtype)

    def padded() -> Result:
        scores = []
        for query, candidates in zip(asked, rows, strict=True):
            index = padded_index(segment.offsets, candidates)
            documents = tokens.index_select(0, index.flatten()).view(*index.shape, -1)
            scores.append(torch.einsum("ntd,qd->ntq", documents, query).amax(1).float().sum(1))
        return torch.stack(scores), rows

    def packed() -> Result:
        scores = []
        for query, candidates in zip(asked, rows, strict=True):
            lengths = segment.offsets[candidates + 1] - segment.offsets[candidates]
            ends = lengths.cumsum(0)
            index = torch.arange(int(ends[-1]), device=rows.device)
            index += (segment.offsets[candidates] - ends + lengths).repeat_interleave(lengths)
            similarities = tokens.index_select(0, index) @ query.T
            best = segment_maximum(similarities, torch.nn.functional.pad(ends, (1, 0)))
            scores.append(best.float().sum(1))
        return torch.stack(scores), rows

    yield Contender("torch", "gather, padded einsum", codec, padded)
    yield Contender("torch", f"gather, packed matmul, {_SEGMENT_MAXIMUM[rows.device.type]}", codec, packed)


def maxsim_cpu_search(corpus: Corpus, queries: torch.Tensor) -> Iterator[Contender]:
    """maxsim-cpu takes one query at a time: uniform documents as one array, others as lists of arrays."""
    if not find_spec("maxsim_cpu"):
        return
    import maxsim_cpu

    asked = queries.numpy()
    documents = arrays(corpus)
    uniform = None if corpus.shape.ragged else np.stack(documents)

    def variable() -> Result:
        return best_of(torch.from_numpy(np.stack([_score_variable(query, documents) for query in asked])))

    def uniform_lengths() -> Result:
        return best_of(torch.from_numpy(np.stack([maxsim_cpu.maxsim_scores(query, uniform) for query in asked])))

    if uniform is None:
        yield Contender("maxsim-cpu", "maxsim_scores_variable", Codec.FLOAT32, variable)
    else:
        yield Contender("maxsim-cpu", "maxsim_scores", Codec.FLOAT32, uniform_lengths)


def maxsim_cpu_rerank(corpus: Corpus, queries: torch.Tensor, rows: torch.Tensor) -> Iterator[Contender]:
    """As maxsim_cpu_search, of the candidates' arrays."""
    if not find_spec("maxsim_cpu"):
        return
    asked = queries.numpy()
    documents = arrays(corpus)
    candidates = rows.tolist()

    def rerank() -> Result:
        scores = [
            _score_variable(query, [documents[row] for row in wanted])
            for query, wanted in zip(asked, candidates, strict=True)
        ]
        return torch.from_numpy(np.stack(scores)), rows

    yield Contender("maxsim-cpu", "maxsim_scores_variable", Codec.FLOAT32, rerank)


def _score_variable(query: NDArray[np.float32], documents: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A hundred documents per call: 44,000 of 68 tokens took 0.5 s so, 0.7 s with a thousand per call, 2.7 s in one."""
    import maxsim_cpu

    parts = range(0, len(documents), 100)
    return np.concatenate([maxsim_cpu.maxsim_scores_variable(query, documents[at : at + 100]) for at in parts])


def float_tokens(segment: Segment) -> torch.Tensor:
    """Token embeddings [tokens, dim] of a codec that is a torch type, in the segment's own memory.

    Raises ValueError for a codec whose codes are not the numbers themselves.
    """
    codec = DESCRIPTIONS[segment.codec]
    if not codec.operand.is_floating_point or codec.unit != 1:
        raise ValueError(f"codec is {segment.codec.value}; expected one whose codes are the numbers themselves")
    return segment.codes.view(codec.operand)


def arrays(corpus: Corpus) -> list[NDArray[np.float32]]:
    """Each document's float32 token embeddings, in the segment's own memory."""
    segment = corpus.segments[Codec.FLOAT32]
    tokens = float_tokens(segment).numpy()
    offsets = segment.offsets.tolist()
    return [tokens[start:end] for start, end in pairwise(offsets)]


def padded_index(offsets: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Places of the documents' tokens, int64 [rows, longest]: a short document's last token again behind its own.

    So padding changes no maximum, and nothing has to be masked.
    """
    lengths = offsets[rows + 1] - offsets[rows]
    places = torch.arange(int(lengths.max()), device=offsets.device)
    return offsets[rows, None] + torch.minimum(places[None, :], lengths[:, None] - 1)


def padded_blocks(
    segment: Segment, tokens: torch.Tensor, block_tokens: int, keep_order: bool
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Blocks [documents, longest, dim] of about so many tokens, and the rows in the blocks' order.

    Documents of one length stay in order and in the segment's memory; others are sorted by length, which pads least.
    """
    lengths = segment.offsets.diff()
    if keep_order:
        order = torch.arange(segment.documents, device=segment.device)
        documents = tokens.view(segment.documents, -1, tokens.shape[1])
        return order, list(documents.chunk(-(-segment.tokens // block_tokens)))
    order = lengths.argsort()
    blocks = lengths[order].cumsum(0) // block_tokens
    cuts = (blocks.diff().nonzero().flatten() + 1).tolist()
    return order, [tokens[padded_index(segment.offsets, rows)] for rows in order.tensor_split(cuts)]


def packed_blocks(offsets: torch.Tensor, block_tokens: int) -> list[tuple[slice, torch.Tensor]]:
    """Slices of about so many tokens, with their documents' offsets from 0."""
    blocks = offsets[:-1] // block_tokens
    cuts = (blocks.diff().nonzero().flatten() + 1).tolist()
    inner = [offsets[first : last + 1] for first, last in pairwise([0, *cuts, len(blocks)])]
    return [(slice(int(part[0]), int(part[-1])), part - part[0]) for part in inner]


def segment_maximum(similarities: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """The maximum over each document's tokens: [tokens, columns] to [documents, columns]."""
    if similarities.device.type == "cuda":
        return torch.segment_reduce(similarities, "max", offsets=offsets, axis=0)
    lengths = offsets.diff()
    documents = torch.arange(len(lengths)).repeat_interleave(lengths)
    worst = torch.full((len(lengths), similarities.shape[1]), -torch.inf, dtype=similarities.dtype)
    return worst.scatter_reduce_(0, documents[:, None].expand_as(similarities), similarities, "amax")


def best_of(scores: torch.Tensor) -> Result:
    """The top_k of scores [batch, documents]."""
    values, rows = scores.topk(min(TOP_K, scores.shape[1]))
    return values, rows


def _top_k(best: torch.Tensor, batch: int, order: torch.Tensor | None = None) -> Result:
    """The top_k from the maxima [batch * tokens, documents], summed in float32."""
    values, places = best_of(best.float().view(batch, -1, best.shape[1]).sum(1))
    return values, places if order is None else order[places]
