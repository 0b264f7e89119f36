"""A Gluon kernel against its plain twin, on the device at hand.

    python -m tridex.kernels.gpu.probe DEVICE CODEC DIM KIND

KIND is what the kernel searches: "batches" or "single queries", which it rescores as well (gluon/roles.py).

Gluon does not run in the interpreter, its interface moves between releases, and what it leaves to its author (barriers,
layouts) fails by the device: so no test before counts for as much as this one, at warm-up. It is a process of its own
(gluon/verdict.py), because the device may be of no more use to it afterwards.
"""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.kernels.codebook import Codebook
from tridex.kernels.codec import Codec
from tridex.kernels.codecs import DESCRIPTIONS, encode, split_rows
from tridex.kernels.columns import Columns
from tridex.kernels.segment import Segment, pack_bitmap

from . import backend
from .gluon.roles import BATCHES, SINGLE_QUERIES, OneWarp, Roles, kernels_of, serves
from .gluon.verdict import AGREES, LAUNCHED, LONGEST_S, READY, one_line
from .query_tile import capability_of

Search = Callable[[torch.Tensor, torch.Tensor, Segment, int], tuple[torch.Tensor, ...]]
"""Of queries, their mask, a segment and top_k: scores and rows, and of a single query the scores of candidates."""

_SHAPES = {
    BATCHES: [(8, 32, 10), (21, 9, 300), (5, 64, 1), (264, 32, 3), (3, 128, 10), (2, 90, 10), (16, 32, 3000)],
    SINGLE_QUERIES: [(1, 32, 10), (1, 17, 3000), (1, 1, 1)],
}
"""Queries, their tokens, top_k. Of batches: a program's queries and all of its tokens; several programs, the last with
few queries; queries of two subtiles, and of four and three where the kernel serves them; splits of so many documents
that buffers of keys fill up; and the scores of many documents."""

_DOCUMENTS = {BATCHES: 5000, SINGLE_QUERIES: 30_000}
"""So that programs of one warp, of which there are many, have blocks of several documents."""

_SHORT_DOCUMENTS = 450_000
"""For single queries alone: blocks of as many documents as a warp has lanes, and scores that a program goes through in
several steps, thresholds between them. Short, so that they take no more memory than the others."""

_DISTINCT_DOCUMENTS = 20_000
"""Whose 400,000 tokens are all others: a product that is rounded in another way shows in some of their scores."""

_CENTROIDS = 40_000
"""More than a signed number of 16 bits has room for."""

_RUNS = 20
"""Of each shape: programs that wait for each other do not do so the same way twice."""


def main(device: str, codec: str, dim: str, kind: str) -> None:
    """Prints what gluon/verdict.py reads; the exit status is 0 where the kernels agree."""
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)  # No kernel that hangs outlives a parent that was killed.
    # Fills all that torch.empty returns with NaN and the largest integers: no result of one is left for the other.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        compare(torch.device(device), Codec(codec), int(dim), kind)
    except Exception as error:  # Whatever a version of the language or of the driver says to it.
        print(one_line(error))
        sys.exit(1)
    print(AGREES)


class DisagreementError(Exception):
    """The kernels' results differ."""


def compare(device: torch.device, codec: Codec, dim: int, kind: str) -> None:
    """Compares the kernels that batches of the codec, or single queries, can be searched by.

    Raises:
        DisagreementError: Some bit differs.
        ValueError: There is no Gluon kernel for them.
    """
    kernel = kernels_of(codec, dim, capability_of(device)).get(kind)
    if kernel is None:
        raise ValueError(f"there is no Gluon kernel for {kind} in {codec} of {dim} dimensions on {device}")
    by = _search_and_rescore if kind == SINGLE_QUERIES else backend.search_by
    plain, fast = partial(by, None), partial(by, kernel)
    segment = probe_segment(device, codec, dim, mixed_lengths(_DOCUMENTS[kind]))
    # First the one without a live document: kernels are loaded for it, and that may wait for those that run.
    segments = [segment.with_live(torch.zeros_like(segment.live)), segment, distinct_segment(device, codec, dim)]
    if kind == SINGLE_QUERIES:
        segments.append(probe_segment(device, codec, dim, short_lengths()))
    compare_searches(segments, shapes_of(kind, kernel), plain, fast)


def shapes_of(kind: str, kernel: Roles | OneWarp) -> list[tuple[int, int, int]]:
    """The searches of a probe: queries, their tokens, top_k."""
    return [(batch, tokens, top_k) for batch, tokens, top_k in _SHAPES[kind] if serves(kernel, batch, tokens)]


def compare_searches(
    segments: Sequence[Segment], shapes: Sequence[tuple[int, int, int]], plain: Search, fast: Search
) -> None:
    """Has both search the segments, and prints READY and LAUNCHED on the way. Raises DisagreementError.

    shapes: Queries, their tokens, top_k.
    """
    probes = [
        (*probe_queries(segment.device, batch, tokens, segment.dim), segment, top_k)
        for segment in segments
        for batch, tokens, top_k in shapes
    ]
    expected = [_bits(plain(*probe)) for probe in probes]
    print(READY, flush=True)
    fast(*probes[0])  # Compiles, and waits for no kernel's end.
    print(LAUNCHED, flush=True)
    for probe, right in zip(probes, expected, strict=True):
        for _ in range(_RUNS):
            if not all(map(torch.equal, _bits(fast(*probe)), right)):
                (batch, tokens, _), top_k = probe[0].shape, probe[-1]
                raise DisagreementError(f"other results for {batch} queries of {tokens} tokens, top_k {top_k}")


def _search_and_rescore(
    kernel: Roles | OneWarp | None, queries: torch.Tensor, mask: torch.Tensor, segment: Segment, top_k: int
) -> tuple[torch.Tensor, ...]:
    """The rescore has documents // top_k candidates."""
    candidates = probe_candidates(segment, segment.documents // top_k)
    found = backend.search_by(kernel, queries, mask, segment, top_k)
    return *found, backend.rescore_by(kernel, queries, mask, segment, candidates)


def _bits(results: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """On the host, so that whoever computed them has come to an end."""
    return [result.cpu().view(torch.uint8) for result in results]


@cache
def _codebook(codec: Codec, dim: int) -> Codebook | None:
    """Of random directions, for the codecs that have one."""
    if not codec.residual_bits:
        return None
    centroids = torch.from_numpy(np.random.default_rng(2).standard_normal((_CENTROIDS, dim), np.float32))
    values = torch.linspace(-0.1, 0.1, 2**codec.residual_bits)
    return Codebook.rounded(torch.nn.functional.normalize(centroids, dim=1), values)


@cache
def _pool(codec: Codec, dim: int) -> torch.Tensor:
    """Rows of 61 tokens: with so few, documents tie."""
    tokens = np.random.default_rng(0).standard_normal((61, dim), np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    return torch.from_numpy(encode(codec, tokens, _codebook(codec, dim)))


def mixed_lengths(documents: int) -> NDArray[np.int64]:
    """Of documents of 0 to 70 tokens and two long ones."""
    rng = np.random.default_rng(3)
    lengths = np.where(rng.random(documents) < 0.4, rng.integers(0, 20, documents), rng.integers(1, 71, documents))
    lengths[[7, 2500]] = 300, 9000
    return lengths


def short_lengths() -> NDArray[np.int64]:
    """Of many documents of 0 to 3 tokens."""
    return np.random.default_rng(4).integers(0, 4, _SHORT_DOCUMENTS)


def probe_segment(device: torch.device, codec: Codec, dim: int, lengths: NDArray[np.int64]) -> Segment:
    """Documents of so many tokens each. A third are deleted; 200 begin as those before them."""
    rng, documents = np.random.default_rng(1), len(lengths)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    drawn = rng.integers(0, 61, offsets[-1])
    for row in range(1000, 1400, 2):  # Some are equal, and of those the lower row comes first.
        span = slice(offsets[row], offsets[row] + min(lengths[row : row + 2]))
        drawn[offsets[row + 1] : offsets[row + 1] + (span.stop - span.start)] = drawn[span]
    columns = split_rows(codec, _pool(codec, dim)[torch.from_numpy(drawn)].to(device))
    codebook = _codebook(codec, dim)
    return Segment(
        codec,
        dim,
        columns.codes,
        torch.from_numpy(offsets).to(device),
        pack_bitmap(rng.random(documents) < 2 / 3).to(device),
        columns.scales,
        columns.centroid_ids,
        None if codebook is None else codebook.to(device),
    )


def distinct_segment(device: torch.device, codec: Codec, dim: int) -> Segment:
    """Documents of 1 to 40 tokens, each token drawn by itself. All are live."""
    lengths = np.random.default_rng(6).integers(1, 41, _DISTINCT_DOCUMENTS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens, chance = int(offsets[-1]), torch.Generator(device).manual_seed(6)
    codebook = _codebook(codec, dim)
    if codebook is None:
        parts = []  # So that for a moment they take tens of megabytes, and not hundreds.
        for count in np.diff(np.linspace(0, tokens, 9, dtype=np.int64)).tolist():
            drawn = torch.randn((count, dim), generator=chance, device=device) * dim**-0.5  # Of about unit length.
            parts.append(DESCRIPTIONS[codec].encode(drawn, None)[0])
        scales = [part.scales for part in parts if part.scales is not None]
        columns = Columns(torch.cat([part.codes for part in parts]), torch.cat(scales) if scales else None)
    else:  # No search for the nearest centroids: any codes are some token's.
        codes = (tokens, dim * codec.residual_bits // 8)
        columns = Columns(
            torch.randint(256, codes, generator=chance, device=device, dtype=torch.uint8),
            (torch.rand(tokens, generator=chance, device=device) + 0.5).half(),
            torch.randint(_CENTROIDS, (tokens,), generator=chance, device=device).to(torch.int16),
        )
        codebook = codebook.to(device)
    live = pack_bitmap(np.ones(_DISTINCT_DOCUMENTS, np.bool_)).to(device)
    at = torch.from_numpy(offsets).to(device)
    return Segment(codec, dim, columns.codes, at, live, columns.scales, columns.centroid_ids, codebook)


def probe_candidates(segment: Segment, count: int) -> torch.Tensor:
    """Rows for one query: some come twice, some are not in the segment."""
    rows = np.random.default_rng(5).integers(-5, segment.documents + 5, (1, count))
    return torch.from_numpy(rows).to(segment.device)


def probe_queries(device: torch.device, batch: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, and their masks; the last of several masks all tokens."""
    rng = np.random.default_rng(batch)
    queries = rng.standard_normal((batch, tokens, dim), np.float32)
    mask = rng.random((batch, tokens)) < 0.9
    if batch > 1:
        mask[-1] = False
    return torch.from_numpy(queries).to(device), torch.from_numpy(mask).to(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
