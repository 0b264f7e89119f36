"""Queries made ready for the other kernels, in one launch: scaled, rounded, filled up to subtiles. Device code.

The same numbers as tridex.kernels.scaling and CodecDescription.round_queries make on a CPU; scaling.py says why.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803
from __future__ import annotations

import torch
import triton
import triton.language as tl

QUERY_TYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Told apart as the kernel runs, so that each costs neither a launch that converts it nor a compilation."""

_SHORTEST = tl.constexpr(-500)
"""The exponent of the unit of a token of zeros (scaling.py)."""

_WHOLE = tl.constexpr(1.5 * 2.0**23)
"""Adding and subtracting it rounds a float32 of up to 2^22 to a whole number, half to even."""

_LARGEST_SCORE = tl.constexpr(float(2**128 - 2**104))


@triton.jit
def unscaled(results, units):
    """What float32 results of scaled queries stand for; units: fp64. -inf, no document, stays."""
    true = results.to(tl.float64) * units
    true = tl.where(true > _LARGEST_SCORE, _LARGEST_SCORE, tl.where(true < -_LARGEST_SCORE, -_LARGEST_SCORE, true))
    return tl.where(results != float("-inf"), true.to(tl.float32), results)


@triton.jit
def power_of_two(exponents):
    """fp64 of int64 exponents."""
    return ((exponents + 1023) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _exponents(tokens):
    """int64 [tokens]: those of the powers of two nearest to the tokens' lengths, by ratio. tokens: fp64.

    2^k is the largest within 2^0.5 times the length where 4^k is the largest within 2 times its square.
    """
    bits = (2 * tl.sum(tokens * tokens, axis=1)).to(tl.int64, bitcast=True)
    return tl.maximum(((bits >> 52) - 1023) >> 1, _SHORTEST)


@triton.jit
def _load_tokens(p_queries, query_type, p_mask, query, tokens, token, dimension, DIM: tl.constexpr):
    """Query tokens fp64 [tokens, dimensions], 0 where there are none, and which of them count."""
    known = token < tokens
    lines = tl.cast(query, tl.int64) * tokens + token
    wanted = known[:, None] & (dimension < DIM)[None, :]
    places = lines[:, None] * DIM + dimension[None, :]
    if query_type == 0:
        numbers = tl.load(p_queries.to(tl.pointer_type(tl.float32)) + places, mask=wanted, other=0.0)
    elif query_type == 1:
        numbers = tl.load(p_queries.to(tl.pointer_type(tl.float16)) + places, mask=wanted, other=0.0).to(tl.float32)
    else:
        numbers = tl.load(p_queries.to(tl.pointer_type(tl.bfloat16)) + places, mask=wanted, other=0.0).to(tl.float32)
    if p_mask is not None:
        known = known & (tl.load(p_mask + lines, mask=known, other=0) != 0)
    return numbers.to(tl.float64), known


@triton.jit
def _round_to_e4m3(numbers):
    """fp32 numbers up to 448 to those that e4m3 has, half to even: by steps of 1/8 of a power of two, 2^-9 at least.

    A device without float8 multiplies them as well.
    """
    powers = tl.maximum(numbers.to(tl.int32, bitcast=True) & 0x7F800000, (127 - 6) << 23)
    steps = (powers - (3 << 23)).to(tl.float32, bitcast=True)
    return ((tl.div_rn(numbers, steps) + _WHOLE) - _WHOLE) * steps


@triton.jit
def unit_exponent(
    p_queries, query_type, p_mask, query, tokens, DIM: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr
):
    """That of a query's unit: the largest of its tokens that count. TOKENS: at a time."""
    dimension = tl.arange(0, WIDTH)
    largest = tl.full([], _SHORTEST, tl.int64)
    for first in range(0, tokens, TOKENS):
        token = first + tl.arange(0, TOKENS)
        numbers, counted = _load_tokens(p_queries, query_type, p_mask, query, tokens, token, dimension, DIM)
        largest = tl.maximum(largest, tl.max(tl.where(counted, _exponents(numbers), _SHORTEST)))
    return largest


@triton.jit
def round_tokens(
    p_queries,
    query_type,
    p_mask,
    query,
    tokens,
    token,
    unit,
    step,
    NUMBER: tl.constexpr,
    FLOAT8: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Some tokens of a query, as prepare_queries stores them: numbers [tokens, WIDTH], weights and units [tokens].

    token: Their places; from `tokens` on they fill a subtile up. unit: What unit_exponent says, or None where each has
    its own. NUMBER: What the codec multiplies.
    """
    dimension = tl.arange(0, WIDTH)
    numbers, counted = _load_tokens(p_queries, query_type, p_mask, query, tokens, token, dimension, DIM)
    exponents = _exponents(numbers)
    numbers = (numbers * power_of_two(-exponents)[:, None]).to(tl.float32)
    if unit is None:
        units = tl.where(counted, exponents, 0)
        weights = counted.to(tl.float32)
    else:
        units = tl.zeros(exponents.shape, tl.int64) + unit
        weights = tl.where(counted, power_of_two(tl.maximum(exponents - unit, -1000)), 0.0).to(tl.float32)
    if NUMBER.is_int8():
        scales = tl.div_rn(tl.max(tl.abs(numbers), axis=1), 127.0)
        scales = tl.where(scales > 0, scales, 1.0)
        numbers = (tl.div_rn(numbers, tl.broadcast_to(scales[:, None], numbers.shape)) + _WHOLE) - _WHOLE
        weights *= tl.where(counted, scales * step, 0.0)  # Infinite where a token is that does not count.
    elif FLOAT8:
        numbers = _round_to_e4m3(numbers * 256)
        if NUMBER.is_fp16():
            numbers /= 256
        else:
            weights /= 65536
    return numbers.to(NUMBER), weights, power_of_two(units)


@triton.jit(
    do_not_specialize=["query_type", "tokens", "subtiles", "counters", "step"],
    do_not_specialize_on_alignment=["p_queries", "p_mask", "p_counters"],
)
def prepare_queries(
    p_queries,  # bytes of [queries, tokens, DIM]
    query_type,  # of QUERY_TYPES
    p_mask,  # int8 [queries, tokens], 0 where a token does not count; all count where None
    p_numbers,  # out: [queries, subtiles * SUBTILE, DIM], what the codec multiplies
    p_weights,  # out: fp32 [queries, subtiles * SUBTILE]: what maxima are multiplied by, 0 where a token does not count
    p_units,  # out: fp64 [queries], or [queries, subtiles * SUBTILE] for EACH_TOKEN: what results are multiplied by
    p_counters,  # out: int32 [counters]: 0
    tokens,
    subtiles,
    counters,
    step,  # of the codebook; 1 where the codec has none
    FLOAT8: tl.constexpr,  # numbers are those of e4m3, of 256 times a query
    EACH_TOKEN: tl.constexpr,
    DIM: tl.constexpr,
    WIDTH: tl.constexpr,  # the power of two from DIM on
    TOKENS: tl.constexpr,  # at a time
    SUBTILE: tl.constexpr,
):
    """Scales and rounds queries. Grid: queries.

    What a token's products have in common goes into its weight.
    """
    query = tl.program_id(0)
    dimension = tl.arange(0, WIDTH)
    for i in range(query, counters, tl.num_programs(0)):
        tl.store(p_counters + i, 0)
    if EACH_TOKEN:
        unit: tl.constexpr = None
    else:
        unit = unit_exponent(p_queries, query_type, p_mask, query, tokens, DIM, WIDTH, TOKENS)
        tl.store(p_units + query, power_of_two(unit))
    for first in range(0, subtiles * SUBTILE, TOKENS):
        token = first + tl.arange(0, TOKENS)
        number: tl.constexpr = p_numbers.dtype.element_ty
        numbers, weights, units = round_tokens(
            p_queries, query_type, p_mask, query, tokens, token, unit, step, number, FLOAT8, DIM, WIDTH
        )
        out = query.to(tl.int64) * subtiles * SUBTILE + token
        own = token < subtiles * SUBTILE
        inside = own[:, None] & (dimension < DIM)[None, :]
        tl.store(p_numbers + out[:, None] * DIM + dimension[None, :], numbers, mask=inside)
        tl.store(p_weights + out, weights, mask=own)
        if EACH_TOKEN:
            tl.store(p_units + out, units, mask=own)
