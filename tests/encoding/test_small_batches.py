"""What runs together: everything once, within the limits, neighbours by width."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tridex.encoding.small_batches import small_batches

ITEMS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 5)), max_size=30)


@given(ITEMS, st.integers(1, 1000), st.integers(1, 20))
def test_batches_keep_to_the_limits(items: list[tuple[int, int]], most_tokens: int, most_texts: int) -> None:
    widths, texts = np.array(items, np.int64).reshape(-1, 2).T
    batches = list(small_batches(widths, most_tokens, most_texts, texts))
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(items)))
    for batch in batches:
        fits = texts[batch].sum() <= most_texts and texts[batch].sum() * widths[batch].max() <= most_tokens
        assert fits or len(batch) == 1
    assert all(widths[one].max() <= widths[other].min() for one, other in itertools.pairwise(batches))
