"""Token pooling is Sentence Transformers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from tridex.encoding import pool_tokens


def tokens_of(count: int, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("factor", [1, 2, 3, 64])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 180])
def test_pooled_as_by_sentence_transformers(count: int, factor: int) -> None:
    tokens = tokens_of(count)
    (expected,) = HierarchicalTokenPooling(factor).pool([torch.from_numpy(tokens)])
    np.testing.assert_allclose(pool_tokens(tokens, factor), expected.numpy(), atol=1e-6)


def test_a_document_without_tokens_stays_one() -> None:
    assert pool_tokens(np.empty((0, 16), np.float32), 2).shape == (0, 16)


def test_tokens_that_are_equal_pool_to_one() -> None:
    tokens = np.repeat(tokens_of(1), 9, axis=0)
    pooled = pool_tokens(tokens, 2)
    assert 2 <= len(pooled) <= 5 and pooled.dtype == np.float32
    np.testing.assert_allclose(pooled, tokens[: len(pooled)], atol=1e-6)
