"""Before anything is timed: are these the right scores?"""

from __future__ import annotations

import torch

from tridex import kernels
from tridex.kernels import Codec

from . import maxsim_corpus as data
from .maxsim_contenders import TOP_K, Contender, Result
from .maxsim_corpus import Corpus, Shape

SAMPLE = Shape("sample", 100, 40, ragged=True)
"""Scored by the reference, which takes seconds for more."""

TOLERANCE = {
    Codec.FLOAT32: 2e-3,
    Codec.FLOAT16: 2e-2,
    Codec.BFLOAT16: 0.15,
    Codec.FLOAT8: 0.5,
    Codec.INT8: 0.05,
    Codec.RESIDUAL4: 0.05,
    Codec.RESIDUAL2: 0.05,
}
"""How far another's score of 32 query tokens may be from ours over the same codec: torch rounds each similarity to the
type it multiplies in (bfloat16: 2^-9 of it), and other fp8 forms scale by the largest number of all."""


def check_against_reference(corpus: Corpus) -> None:
    """Raises RuntimeError where a codec's search or rerank on this device is not the float64 reference's."""
    for codec, segment in corpus.segments.items():
        queries = data.queries(2, segment.device)
        expected = kernels.reference.score(queries, segment)
        scores, rows = (it.cpu() for it in kernels.search(queries, segment, TOP_K))
        # The tensor cores' fp8 sums keep about 14 bits.
        allowed = 2e-2 if codec is Codec.FLOAT8 and segment.device.type == "cuda" else 2e-3
        best = expected.topk(TOP_K).values
        every = torch.arange(segment.documents, device=segment.device).expand(2, -1)
        off = max(
            (scores - expected.gather(1, rows)).abs().max().item(),
            (scores - best).abs().max().item(),
            (kernels.rescore(queries, segment, every).cpu() - expected).abs().max().item(),
        )
        if not off <= allowed:
            raise RuntimeError(f"tridex, {codec.value}: {off} off the reference; expected at most {allowed}")


def check_against_ours(contender: Contender, result: Result, corpus: Corpus, queries: torch.Tensor) -> None:
    """Raises RuntimeError where scores are not ours for the same rows, or a search's are not our best."""
    segment = corpus.segments[contender.precision]
    scores, rows = result
    off = (kernels.rescore(queries, segment, rows.long()) - scores).abs().max().item()
    if scores.shape[1] <= TOP_K:
        best, _ = kernels.search(queries, segment, scores.shape[1])
        off = max(off, (best - scores).abs().max().item())
    if not off <= TOLERANCE[contender.precision]:
        raise RuntimeError(
            f"{contender.library}, {contender.form}, {contender.precision.value}: {off} off our scores; "
            f"expected at most {TOLERANCE[contender.precision]}"
        )
