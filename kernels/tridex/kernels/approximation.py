"""A segment's approximation: its tokens in int8, and for each document how far that is from what the segment holds.

With it a search can score all documents by int8's cheap products and only those few by the segment's own that may be
among the best, and still be exact: filter and refinement, as the VA-file's (Weber, Schek and Blott, A Quantitative
Analysis and Performance Study for Similarity-Search Methods in High-Dimensional Spaces, VLDB 1998). The backend knows
by how much the two scores can differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import NUMBERS_AT_A_TIME
from .codec import Codec
from .codecs import DESCRIPTIONS, decode_columns
from .columns import Columns
from .segment import Segment

_UP = 1 + 2.0**-20
"""More than the roundings of a float64 norm and of its conversion to float32."""

_BYTES_PER_DOCUMENT = 8
_LONGEST_PAUSE = 64


class Trials:
    """Which searches try an approximation: where it did not help n times in a row, the next 2^n - 1 go without.

    A trial in vain costs a third of a search, so that these cost less than a hundredth. Each magnitude of top_k has its
    own. Threads may lose each other's counts, which changes no result.
    """

    def __init__(self) -> None:
        self._pauses: dict[int, int] = {}
        self._left: dict[int, int] = {}

    def is_due(self, top_k: int) -> bool:
        """Whether this search is to try."""
        left = self._left.get(top_k.bit_length(), 0)
        self._left[top_k.bit_length()] = max(left - 1, 0)
        return left == 0

    def judge(self, top_k: int, helped: bool) -> None:
        """Takes down whether it helped."""
        magnitude = top_k.bit_length()
        pause = 0 if helped else min(2 * self._pauses.get(magnitude, 0) + 1, _LONGEST_PAUSE - 1)
        self._pauses[magnitude] = self._left[magnitude] = pause


@dataclass(frozen=True, eq=False)
class Approximation:
    """What `approximate` makes of a segment."""

    segment: Segment
    """The same documents in int8. A token that int8 cannot hold is zeros there."""
    lengths: NDArray[np.float32]
    """[documents], no less than the length of any of the document's tokens; 0 without tokens."""
    distances: NDArray[np.float32]
    """[documents], no less than the distance of any of its tokens from the int8 one; inf where int8 cannot hold one."""
    trials: Trials = field(default_factory=Trials)


def approximation_bytes(segment: Segment) -> int:
    """What the segment's approximation takes of memory."""
    return segment.tokens * Codec.INT8.bytes_per_token(segment.dim) + segment.documents * _BYTES_PER_DOCUMENT


def approximate(segment: Segment) -> Approximation:
    """Makes a segment's approximation, some numbers at a time (NUMBERS_AT_A_TIME): seconds for a million tokens.

    The segment is on the CPU, of a codec without a codebook.
    """
    codes = torch.empty((segment.tokens, segment.dim), dtype=torch.uint8)
    scales = torch.empty(segment.tokens, dtype=torch.float16)
    lengths, distances = np.empty(segment.tokens), np.empty(segment.tokens)
    step = max(1, NUMBERS_AT_A_TIME // segment.dim)
    for first in range(0, segment.tokens, step):
        some = slice(first, first + step)
        held = Columns(segment.codes[some], None if segment.scales is None else segment.scales[some])
        tokens = decode_columns(segment.codec, held, None, torch.float32)
        made, fits = DESCRIPTIONS[Codec.INT8].encode(tokens, None)
        assert made.scales is not None
        codes[some], scales[some] = made.codes, made.scales.where(fits[:, 0], 0.0)
        off = tokens.double() - decode_columns(Codec.INT8, Columns(codes[some], scales[some]), None, torch.float64)
        lengths[some] = torch.linalg.vector_norm(tokens, dim=1, dtype=torch.float64).numpy()
        distances[some] = torch.linalg.vector_norm(off, dim=1).where(fits[:, 0], torch.inf).numpy()
    offsets = segment.offsets.numpy()
    return Approximation(
        Segment(Codec.INT8, segment.dim, codes, segment.offsets, segment.live, scales),
        _largest(lengths, offsets),
        _largest(distances, offsets),
    )


def _largest(of_tokens: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """The largest of each document's tokens, rounded up; 0 without tokens."""
    largest = np.zeros(len(offsets) - 1)
    with_tokens = np.diff(offsets) > 0
    if with_tokens.any():
        largest[with_tokens] = np.maximum.reduceat(of_tokens, offsets[:-1][with_tokens])
    with np.errstate(over="ignore"):  # A length beyond float32 is inf.
        return (largest * _UP).astype(np.float32)
