"""The token embeddings that score, taken out of padded ones in one operation."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tridex.encoding.scoring_tokens import scoring_tokens

SHAPES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=6)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_one_text_s_tokens_follow_the_other_s(shapes: list[tuple[int, int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.integers(0, 2, (texts, tokens)) for texts, tokens, _ in shapes]
    arrays = [rng.standard_normal((texts, tokens + more, 2), np.float32) for texts, tokens, more in shapes]
    expected = [array[:, : mask.shape[1]][mask != 0] for array, mask in zip(arrays, masks, strict=True)]
    found = scoring_tokens([torch.from_numpy(array) for array in arrays], masks)
    np.testing.assert_array_equal(found.numpy(), np.concatenate(expected))
