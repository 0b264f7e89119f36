"""late-interaction-kernels 0.4.5 and flash-maxsim 0.3.0, each in the form that its documentation gives for the shape.

Longest lengths, offsets in int32 and queries in each library's type are held ready, so that no call waits for the
device but for fp8, which reads its scales back. Where a library's 32-bit addresses would overflow, its own way of
cutting the documents is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch

from tridex.kernels import Codec, Segment

from .maxsim_contenders import TOP_K, Contender, Result, best_of, float_tokens, padded_index
from .maxsim_corpus import Corpus

_ADDRESSES = 1 << 31
"""Numbers that an int32 offset reaches."""

_BLOCK_DOCUMENTS = 1 << 12
_BLOCK_TOKENS = 1 << 20
"""Converted at a time, so that a GPU full of documents has room for it."""


def lik_search(corpus: Corpus, queries: torch.Tensor) -> Iterator[Contender]:
    """late-interaction-kernels: `retrieve` and fp8 over uniform documents, varlen over others, PLAID for residuals."""
    if not find_spec("late_interaction_kernels"):
        return
    import late_interaction_kernels as lik
    from late_interaction_kernels import fp8, plaid

    half = corpus.segments[Codec.FLOAT16]
    tokens = float_tokens(half)
    batch, query_tokens, dim = queries.shape
    asked = queries.half()
    cuts = half.offsets.int()
    longest = int(half.offsets.diff().max())

    if corpus.shape.ragged:
        if tokens.numel() < _ADDRESSES:
            query_cuts = torch.arange(batch + 1, dtype=torch.int32, device=queries.device) * query_tokens
            packed = asked.flatten(0, 1)

            def varlen() -> Result:
                scores = lik.maxsim_varlen(
                    packed, tokens, query_cuts, cuts, max_seqlen_q=query_tokens, max_seqlen_d=longest
                )
                return best_of(scores)

            yield Contender("late-interaction-kernels", "maxsim_varlen", Codec.FLOAT16, varlen)
    else:
        documents = tokens.view(half.documents, longest, dim)
        # The dense kernels multiply document and stride in int32.
        chunk = min(half.documents, (_ADDRESSES - 1) // (longest * dim))

        def retrieve() -> Result:
            scores, rows = lik.retrieve(asked, documents, top_k=TOP_K, normalize=False, chunk=chunk)
            return scores, rows

        yield Contender("late-interaction-kernels", "retrieve", Codec.FLOAT16, retrieve)
        if torch.cuda.get_device_capability(queries.device) >= (9, 0):
            documents_fp8, document_scale = _fp8_per_tensor(documents)
            queries_fp8, query_scale = fp8.quantize_fp8_per_tensor(queries)

            def inference_fp8() -> Result:
                scores = [
                    fp8.maxsim_inference_fp8(queries_fp8, part, scale_Q=query_scale, scale_D=document_scale)
                    for part in documents_fp8.chunk(-(-half.documents // chunk))
                ]
                return best_of(torch.cat(scores, dim=1))

            yield Contender("late-interaction-kernels", "maxsim_inference_fp8", Codec.FLOAT8, inference_fp8)

    def residual(segment: Segment) -> Callable[[], Result]:
        book, residuals = segment.codebook, plaid_residuals(segment)
        assert segment.centroid_ids is not None and book is not None
        codes = segment.centroid_ids.int() & 0xFFFF
        centroids, weights = book.directions().half(), book.step * book.bucket_weights.float()

        def residual_varlen() -> Result:
            scores = plaid.maxsim_residual_varlen(
                asked, codes, residuals, cuts, centroids, weights, book.bits, max_seqlen_d=longest
            )
            return best_of(scores)

        return residual_varlen

    for codec in (Codec.RESIDUAL4, Codec.RESIDUAL2):
        segment = corpus.segments[codec]
        if segment.codes.numel() < _ADDRESSES:
            yield Contender("late-interaction-kernels", "maxsim_residual_varlen", codec, residual(segment))


def lik_rerank(corpus: Corpus, queries: torch.Tensor, rows: torch.Tensor) -> Iterator[Contender]:
    """late-interaction-kernels: a list of pairs over packed tokens, which copies no document."""
    if not find_spec("late_interaction_kernels"):
        return
    from late_interaction_kernels.score_pairs import score_pairs_packed

    half = corpus.segments[Codec.FLOAT16]
    tokens = float_tokens(half)
    if tokens.numel() >= _ADDRESSES:
        return
    batch, query_tokens, _ = queries.shape
    asked = queries.half().flatten(0, 1)
    query_cuts = torch.arange(batch + 1, dtype=torch.int32, device=queries.device) * query_tokens
    cuts = half.offsets.int()
    longest = int(half.offsets.diff().max())
    query_ids = torch.arange(batch, dtype=torch.int32, device=queries.device).repeat_interleave(rows.shape[1])
    document_ids = rows.int().flatten()

    def rerank() -> Result:
        scores: torch.Tensor = score_pairs_packed(
            asked, tokens, query_cuts, cuts, query_ids, document_ids, max_seqlen_q=query_tokens, max_seqlen_d=longest
        )
        return scores.view(rows.shape), rows

    yield Contender("late-interaction-kernels", "score_pairs_packed", Codec.FLOAT16, rerank)


def flash_search(corpus: Corpus, queries: torch.Tensor) -> Iterator[Contender]:
    """flash-maxsim: batched over uniform documents, packed (a query at a time) over others, int8 over uniform ones."""
    if not find_spec("flash_maxsim"):
        return
    import flash_maxsim

    half = corpus.segments[Codec.FLOAT16]
    tokens = float_tokens(half)
    asked = queries.half()
    lengths = half.offsets.diff().int()
    cuts = half.offsets.int()
    if corpus.shape.ragged:
        documents = tokens[padded_index(half.offsets, torch.arange(half.documents, device=half.device))]
    else:
        documents = tokens.view(half.documents, -1, tokens.shape[1])

    def batched() -> Result:
        return best_of(flash_maxsim.flash_maxsim_batched(asked, documents, doc_lengths=lengths))

    def persistent() -> Result:
        return best_of(flash_maxsim.flash_maxsim_persistent(asked, documents, doc_lengths=lengths))

    def packed() -> Result:
        return best_of(torch.stack([flash_maxsim.flash_maxsim(query, tokens, cuts) for query in asked]))

    yield Contender("flash-maxsim", "flash_maxsim_batched", Codec.FLOAT16, batched)
    yield Contender("flash-maxsim", "flash_maxsim_persistent", Codec.FLOAT16, persistent)
    if corpus.shape.ragged:
        yield Contender("flash-maxsim", "flash_maxsim over packed documents", Codec.FLOAT16, packed)
        return
    coded = corpus.segments[Codec.INT8]
    assert coded.scales is not None
    numbers = coded.codes.view(torch.int8).view(documents.shape)
    scales = coded.scales.view(documents.shape[:2])
    asked_int8 = [flash_maxsim.quantize_query_int8(query) for query in queries]

    def int8() -> Result:
        scores = [
            flash_maxsim.flash_maxsim_int8x8(query, numbers, scales, *coded_query, doc_lengths=lengths)
            for query, coded_query in zip(asked, asked_int8, strict=True)
        ]
        return best_of(torch.stack(scores))

    yield Contender("flash-maxsim", "flash_maxsim_int8x8", Codec.INT8, int8)


def flash_rerank(corpus: Corpus, queries: torch.Tensor, rows: torch.Tensor) -> Iterator[Contender]:
    """flash-maxsim: a query at a time, its candidates read where they lie."""
    if not find_spec("flash_maxsim"):
        return
    import flash_maxsim

    half = corpus.segments[Codec.FLOAT16]
    tokens = float_tokens(half)
    if tokens.numel() >= _ADDRESSES:
        return
    starts = half.offsets[rows].int()
    lengths = half.offsets.diff()[rows].int()
    longest = int(half.offsets.diff().max())
    asked = queries.half()

    def rerank() -> Result:
        scores = [
            flash_maxsim.flash_maxsim_rerank_direct(query, tokens, start, length, longest)
            for query, start, length in zip(asked, starts, lengths, strict=True)
        ]
        return torch.stack(scores), rows

    yield Contender("flash-maxsim", "flash_maxsim_rerank_direct", Codec.FLOAT16, rerank)


def _fp8_per_tensor(documents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What quantize_fp8_per_tensor returns, without its three float32 copies of all documents."""
    blocks = documents.chunk(-(-len(documents) // _BLOCK_DOCUMENTS))
    scale = torch.stack([block.abs().amax() for block in blocks]).amax().float() / torch.finfo(torch.float8_e4m3fn).max
    return torch.cat([(block.float() / scale).to(torch.float8_e4m3fn) for block in blocks]), scale


def plaid_residuals(segment: Segment) -> torch.Tensor:
    """Our residual codes in ColBERTv2's order: neighbouring dimensions share a byte, the first in its lowest bits.

    Ours (kernels/tridex/kernels/codebook.py) puts dimensions a part of dim away from each other into one byte.
    Returns uint8 [tokens, dim * bits / 8].
    """
    bits = segment.codec.residual_bits
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=segment.device)
    parts = []
    for codes in segment.codes.chunk(-(-segment.tokens // _BLOCK_TOKENS)):
        buckets = (codes[:, None, :] >> shifts[:, None]) & ((1 << bits) - 1)  # [tokens, codes per byte, bytes]
        neighbours = buckets.flatten(1).view(len(codes), -1, len(shifts))
        parts.append((neighbours << shifts).sum(2, dtype=torch.uint8))
    return torch.cat(parts)
