"""Before anything is timed: are these the right scores?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from tridex import kernels
from tridex.kernels.codecs import DESCRIPTIONS

from . import maxsim_corpus as data
from .maxsim_contenders import TOP_K, Contender, Result
from .maxsim_corpus import Corpus, Shape

SAMPLE = Shape("sample", 100, 40, ragged=True)
"""Scored by the reference, which takes seconds for more."""


def check_against_reference(corpus: Corpus) -> None:
    """Raises RuntimeError where a codec's search or rerank on this device is not the float64 reference's."""
    for codec, segment in corpus.segments.items():
        queries = data.queries(2, segment.device)
        expected = kernels.reference.score(queries, segment)
        scores, rows = (it.cpu() for it in kernels.search(queries, segment, TOP_K))
        allowed = data.QUERY_TOKENS * DESCRIPTIONS[codec].tolerance(segment.device)
        best = expected.topk(TOP_K).values
        every = torch.arange(segment.documents, device=segment.device).expand(2, -1)
        off = max(
            (scores - expected.gather(1, rows)).abs().max().item(),
            (scores - best).abs().max().item(),
            (kernels.rescore(queries, segment, every).cpu() - expected).abs().max().item(),
        )
        if not off <= allowed:
            raise RuntimeError(f"tridex, {codec.value}: {off} off the reference; expected at most {allowed}")


def check_replays(replayed: Iterable[Contender], launched: Sequence[Contender]) -> list[Contender]:
    """The replays. Raises RuntimeError where one's results are not those of its codec's launches to the last bit."""
    checked = list(replayed)
    for again, once in zip(checked, launched, strict=True):
        if not all(map(torch.equal, again.call(), once.call())):
            raise RuntimeError(f"{again.library}, {again.form}, {again.precision.value}: other results than launched")
    return checked


def check_against_ours(contender: Contender, result: Result, corpus: Corpus, queries: torch.Tensor) -> None:
    """Raises RuntimeError where scores are not ours for the same rows, or a search's are not our best."""
    segment = corpus.segments[contender.precision]
    scores, rows = result
    off = (kernels.rescore(queries, segment, rows.long()) - scores).abs().max().item()
    if scores.shape[1] <= TOP_K:
        best, _ = kernels.search(queries, segment, scores.shape[1])
        off = max(off, (best - scores).abs().max().item())
    allowed = DESCRIPTIONS[contender.precision].peer_tolerance
    if not off <= allowed:
        raise RuntimeError(
            f"{contender.library}, {contender.form}, {contender.precision.value}: {off} off our scores; "
            f"expected at most {allowed}"
        )
