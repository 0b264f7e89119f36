"""Queries of any magnitude: their tokens are brought near unit length by powers of two, and the scores taken back.

    score(q, d) = unit * sum over tokens i of weight_i * max over j of <tokens_i, D_j>

So no number of a query is too large or too small for what a codec multiplies, nor a sum for float32. Both ways are
exact: the scores of 2**k * q are 2**k times those of q, to the last bit. A token of about unit length, as encoders give
them, is divided by 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import pad

from .arrays import by_parts

LARGEST_SCORE = torch.finfo(torch.float32).max
"""Also what stands for a score that is beyond float32; its negative for one below."""

_EXPONENT = 0x7FF << 52
"""The bits of a float64's exponent: alone, they are the largest power of two that it holds."""

_SHORTEST = 2.0**-500
"""The unit of a token of zeros, below that of every other float32."""


class ScaledQueries(NamedTuple):
    """What a backend multiplies with documents."""

    tokens: torch.Tensor
    """float32 [batch, tokens, dim], of a length from 0.7 to 1.42, or of zeros."""
    weights: torch.Tensor
    """float32 [batch, tokens], powers of two: what a token's maximum is multiplied by, 0 where it does not count."""
    units: torch.Tensor
    """float64, powers of two: what the results are multiplied by in the end. [batch, 1], the largest of the query's
    tokens; where tokens are told apart [batch, 1, tokens]."""


def scale_queries(queries: torch.Tensor, mask: torch.Tensor | None = None) -> ScaledQueries:
    """Scales queries for sums over tokens; waits for no device.

    A token 2**149 times shorter than the query's longest counts for nothing.

    Args:
        queries: float32, float16 or bfloat16 [batch, tokens, dim].
        mask: bool [batch, tokens], False where a token does not count; all count where None.

    Returns:
        Tokens, one unit for each query, and the tokens' weights, 1 at most.
    """
    tokens, units = _scaled(queries)
    counted = units if mask is None else units.where(mask, 0.0)
    largest = pad(counted, (0, 1), value=_SHORTEST).amax(dim=1, keepdim=True)
    return ScaledQueries(tokens, (counted / largest).float(), largest)


def scale_tokens(queries: torch.Tensor, mask: torch.Tensor | None = None) -> ScaledQueries:
    """For results of each token alone: its own unit, and the weight 1."""
    tokens, units = _scaled(queries)
    if mask is None:
        return ScaledQueries(tokens, torch.ones_like(tokens[..., 0]), units[:, None])
    return ScaledQueries(tokens, mask.float(), units.where(mask, 1.0)[:, None])


def unscaled(results: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """What float32 results of scaled queries stand for. -inf, no document, stays."""
    return by_parts(_unscaled, results, units)


def _unscaled(results: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    true = (results.double() * units).clamp(-LARGEST_SCORE, LARGEST_SCORE).float()
    return true.where(results != -torch.inf, results)


def _scaled(queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens as in ScaledQueries, and the powers of two nearest to their lengths: float64 [batch, tokens]."""
    flat = queries.flatten(0, 1).contiguous()
    units = by_parts(_units, flat)
    tokens = by_parts(lambda part, of: (part / of[:, None]).float(), flat, units)
    return tokens.view(queries.shape), units.view(queries.shape[:2])


def _units(tokens: torch.Tensor) -> torch.Tensor:
    lengths: torch.Tensor = torch.linalg.vector_norm(tokens, dim=-1, dtype=torch.float64)
    # Nearest by ratio, so the largest power of two within 2**0.5 times the length.
    return ((lengths * 2**0.5).view(torch.int64) & _EXPONENT).view(torch.float64).clamp(min=_SHORTEST)
