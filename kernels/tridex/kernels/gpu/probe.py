"""A Gluon kernel against its plain twin, on the device at hand: `python -m tridex.kernels.gpu.probe DEVICE CODEC DIM`.

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

from tridex.kernels.codebook import Codebook
from tridex.kernels.codec import Codec
from tridex.kernels.codecs import encode, split_rows
from tridex.kernels.segment import Segment, pack_bitmap

from . import backend
from .gluon.roles import roles_of
from .gluon.verdict import AGREES, LONGEST_S, READY, one_line
from .query_tile import capability_of

Search = Callable[[torch.Tensor, torch.Tensor, Segment, int], tuple[torch.Tensor, torch.Tensor]]
"""Of queries, their mask, a segment and top_k: scores and rows."""

_SHAPES = [(8, 32, 10), (21, 9, 300), (5, 64, 1), (264, 32, 3)]
"""Queries, their tokens, top_k: a program's queries and all of its tokens; several programs, the last with few queries;
queries of two subtiles; splits of so many documents that buffers of keys fill up."""

_CENTROIDS = 40_000
"""More than a signed number of 16 bits has room for."""

_RUNS = 20
"""Of each shape: programs that wait for each other do not do so the same way twice."""


def main(device: str, codec: str, dim: str) -> None:
    """Prints what gluon/verdict.py reads; the exit status is 0 where the kernels agree."""
    faulthandler.dump_traceback_later(LONGEST_S, exit=True)  # No kernel that hangs outlives a parent that was killed.
    # Fills all that torch.empty returns with NaN and the largest integers: no result of one is left for the other.
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        compare(torch.device(device), Codec(codec), int(dim))
    except Exception as error:  # Whatever a version of the language or of the driver says to it.
        print(one_line(error))
        sys.exit(1)
    print(AGREES)


class DisagreementError(Exception):
    """The kernels' results differ."""


def compare(device: torch.device, codec: Codec, dim: int) -> None:
    """Compares the kernels that batches of the codec can be searched by.

    Raises:
        DisagreementError: Some bit differs.
        ValueError: There is no Gluon kernel for them.
    """
    roles = roles_of(codec, dim, capability_of(device))
    if roles is None:
        raise ValueError(f"there is no Gluon kernel for {codec} of {dim} dimensions on {device}")
    plain, fast = partial(backend.search_by, None), partial(backend.search_by, roles)
    segment = probe_segment(device, codec, dim)
    none_live = segment.with_live(torch.zeros_like(segment.live))
    compare_searches([segment, none_live], plain, fast)


def compare_searches(segments: Sequence[Segment], plain: Search, fast: Search) -> None:
    """Has both search the segments, and prints READY between. Raises DisagreementError."""
    probes = [
        (*probe_queries(segment.device, batch, tokens, segment.dim), segment, top_k)
        for segment in segments
        for batch, tokens, top_k in _SHAPES
    ]
    expected = [_bits(plain(*probe)) for probe in probes]
    print(READY, flush=True)
    for probe, right in zip(probes, expected, strict=True):
        for _ in range(_RUNS):
            if not all(map(torch.equal, _bits(fast(*probe)), right)):
                (batch, tokens, _), top_k = probe[0].shape, probe[-1]
                raise DisagreementError(f"other results for {batch} queries of {tokens} tokens, top_k {top_k}")


def _bits(results: tuple[torch.Tensor, torch.Tensor]) -> list[torch.Tensor]:
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


def probe_segment(device: torch.device, codec: Codec, dim: int) -> Segment:
    """5,000 documents of 0 to 70 tokens and two long ones. A third are deleted; 200 begin as those before them."""
    rng = np.random.default_rng(1)
    lengths = np.where(rng.random(5000) < 0.4, rng.integers(0, 20, 5000), rng.integers(1, 71, 5000))
    lengths[[7, 2500]] = 300, 9000
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
        pack_bitmap(rng.random(5000) < 2 / 3).to(device),
        columns.scales,
        columns.centroid_ids,
        None if codebook is None else codebook.to(device),
    )


def probe_queries(device: torch.device, batch: int, tokens: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries, and their masks, of which one masks all tokens."""
    rng = np.random.default_rng(batch)
    queries = rng.standard_normal((batch, tokens, dim), np.float32)
    mask = rng.random((batch, tokens)) < 0.9
    mask[-1] = False
    return torch.from_numpy(queries).to(device), torch.from_numpy(mask).to(device)


if __name__ == "__main__":
    main(*sys.argv[1:])
