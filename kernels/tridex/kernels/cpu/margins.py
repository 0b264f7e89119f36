"""How far a score over a segment's approximation may be from the score over the segment, as both are computed.

For a query token q with the weight w, as the segment's codec rounds it, q' as int8 does, and a document's tokens d and
d', whose products the two scores take:

    <q, d> - <q', d'> = <q - q', d> + <q', d - d'>

By Cauchy and Schwarz no similarity, so no maximum of similarities, differs by more than |q - q'| |d| + |q'| |d - d'|,
and no score by more than

    (sum of w |q - q'|) * length + (sum of w |q'|) * distance

where length and distance are the largest |d| and |d - d'| of the document's tokens (approximation.py).

Roundings, each by u = 2^-24 of what is rounded. The segment's similarity of `dim` products has up to 2 dim of them, if
an instruction rounds product and sum; int8's has exact sums, and two for the scales; the sum over T query tokens has
T + 1; taking the margin from a score, or adding it, one. What is rounded is never more than w |q| length there and
w |q'| (length + distance) here, summed up over the query. So they come to less than

    c * ((sum of w (|q| + |q'|)) * length + (sum of w |q'|) * distance)        c = 2 u (2 dim + T + 8)

of which the factor 2 is for roundings of roundings, as c is far below 1. Below float32's least normal number, where
instructions may flush to zero, up to 2^-126 is lost instead, in as many places. (A token's scale times a weight near
that number may be off by all of itself, times at most 2^12 * length: nothing beside the rounding of the query's longest
token, whose weight is 1.)
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.kernels.approximation import Approximation
from tridex.kernels.arrays import by_parts
from tridex.kernels.codec import Codec
from tridex.kernels.codecs import DESCRIPTIONS
from tridex.kernels.scaling import ScaledQueries

_UP = 1 + 2.0**-20
"""More than the roundings of what this module itself computes."""

_LEAST = 2.0**-126


def margins(
    queries: ScaledQueries, codec: Codec, approximation: Approximation, rows: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """For each query, how far its scores may be from the approximate ones, [rows]; inf where nothing is known.

    Args:
        queries: The batch.
        codec: The segment's.
        approximation: The segment's.
        rows: The documents.
    """
    batch, tokens, dim = queries.tokens.shape
    norms = by_parts(partial(_norms, codec), queries.tokens.flatten(0, 1)).numpy().reshape(batch, tokens, 3)
    off, exact, coarse = np.einsum("bt,btn->nb", queries.weights.double().numpy(), norms) * _UP
    c = 2.0**-23 * (2 * dim + tokens + 8)
    per_length = (off + c * (exact + coarse)).astype(np.float32)
    per_distance = (coarse * (1 + c)).astype(np.float32)
    least = np.float32(tokens * (2 * dim + 8) * _LEAST)
    with np.errstate(over="ignore", invalid="ignore"):  # inf, and inf times 0, of which nothing is known either
        lengths, distances = (
            of_rows[rows] * np.float32(_UP) for of_rows in (approximation.lengths, approximation.distances)
        )
        return [
            np.nan_to_num(of_length * lengths + of_distance * distances + least, nan=np.inf, posinf=np.inf)
            for of_length, of_distance in zip(per_length, per_distance, strict=True)
        ]


def _norms(codec: Codec, tokens: torch.Tensor) -> torch.Tensor:
    """|q - q'|, |q| and |q'| of query tokens: float64 [tokens, 3]."""
    numbers, _ = DESCRIPTIONS[codec].round_queries(tokens)
    exact = numbers.double() / DESCRIPTIONS[codec].unit
    coarse, scales = DESCRIPTIONS[Codec.INT8].round_queries(tokens)
    assert scales is not None
    rounded = coarse.double() * scales.double()[:, None]
    return torch.stack([torch.linalg.vector_norm(part, dim=1) for part in (exact - rounded, exact, rounded)], dim=1)
