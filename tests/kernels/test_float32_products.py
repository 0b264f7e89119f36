"""float32 by three products of tf32, as gpu/similarity.py multiplies it, on numbers that are cut as there.

Tensor cores are emulated: they ignore the 13 low bits of an operand, and products of what is left are exact in float64.
The interpreter runs the kernel's own cutting (test_triton_language.py), and multiplies in float32.
"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
BOUND = 2.0**-21
"""Of the product of the lengths."""


def of_tf32(numbers: Numbers, add: int) -> Numbers:
    """What is left of the bits, once `add` is added to them, above the 13 low ones."""
    return ((numbers.view(np.int32) + np.int32(add)) & np.int32(~0x1FFF)).view(np.float32)


def product(queries: Numbers, tokens: Numbers) -> float:
    large = [of_tf32(numbers, 0x1000) for numbers in (queries, tokens)]
    small = [of_tf32(numbers - one, 0) for numbers, one in zip((queries, tokens), large, strict=True)]
    (q1, d1), (q2, d2) = ([numbers.astype(np.float64) for numbers in both] for both in (large, small))
    return float((q2 * d1 + q1 * d2).sum() + (q1 * d1).sum())


def off_by(queries: Numbers, tokens: Numbers) -> float:
    """How far the product is from the exact one, of the product of the lengths."""
    exact = queries.astype(np.float64) @ tokens.astype(np.float64)
    lengths = np.linalg.norm(queries.astype(np.float64)) * np.linalg.norm(tokens.astype(np.float64))
    return float(abs(product(queries, tokens) - exact) / lengths)


VECTORS = arrays(np.float32, 8, elements=st.floats(2.0**-20, 2.0**20, width=32), unique=True)


@given(VECTORS, VECTORS)
def test_no_product_is_further_off_than_the_kernel_says(queries: Numbers, tokens: Numbers) -> None:
    assert off_by(queries, tokens) <= BOUND
    assert off_by(queries, -tokens) <= BOUND


def test_the_worst_numbers_reach_half_of_the_bound() -> None:
    """Just below the middle between two numbers of tf32, the small parts are the largest there are."""
    worst = np.full(128, 1 + 2.0**-11 - 2.0**-23, np.float32)
    assert BOUND / 2 < off_by(worst, worst) <= BOUND


def test_unit_vectors_are_a_hundred_times_nearer_than_by_tf32_alone() -> None:
    drawn = np.random.default_rng(0).standard_normal((2, 200, 128))
    queries, tokens = (drawn / np.linalg.norm(drawn, axis=2, keepdims=True)).astype(np.float32)
    off = max(map(off_by, queries, tokens))
    alone = of_tf32(queries, 0x1000).astype(np.float64) * of_tf32(tokens, 0x1000).astype(np.float64)
    exact = queries.astype(np.float64) * tokens.astype(np.float64)
    assert off < 1e-7 and np.abs(alone.sum(axis=1) - exact.sum(axis=1)).max() > 100 * off
