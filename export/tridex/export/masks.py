"""Attention masks as the graph makes them: the padding broadcast, where transformers looks every pair of tokens up.

Its masks are functions of indices, which it counts out for every text, query and key: mask[text, key]. As a graph that
is a chain of Range, Expand and Concat before a GatherND, of which ONNX Runtime runs a part on the CPU, also beside a
GPU; and GatherND copies from the host, so that no CUDA graph can be captured of it. The mask itself has that shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    bidirectional_mask_function,
    eager_mask,
    sdpa_mask,
)

_EAGER = "eager"


def broadcast_mask(
    *,
    attention_mask: Tensor | None,
    mask_function: Callable[..., Any],
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Tensor:
    """What transformers' eager_mask returns, [batch, 1, queries or 1, keys]: 0 where a token attends, else the least.

    Args:
        attention_mask: bool [batch, keys].
        mask_function: Of the positions; local attention has one of its own.
        dtype: Of the scores that the mask is added to.
        options: Of eager_mask.
    """
    if attention_mask is None:
        masked: Tensor = eager_mask(attention_mask=None, mask_function=mask_function, dtype=dtype, **options)
        return masked
    sees = attention_mask[:, None, None, :]
    if mask_function is not bidirectional_mask_function:
        options |= {"batch_size": 1, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        near = sdpa_mask(attention_mask=None, mask_function=mask_function, **options)
        assert near is not None
        sees = sees & near
    return torch.where(sees, torch.zeros((), dtype=dtype), torch.finfo(dtype).min)


@contextmanager
def broadcast_masks() -> Iterator[None]:
    """Meanwhile eager attention has its masks from `broadcast_mask`."""
    ALL_MASK_ATTENTION_FUNCTIONS[_EAGER] = broadcast_mask
    try:
        yield
    finally:
        del ALL_MASK_ATTENTION_FUNCTIONS[_EAGER]  # type: ignore[no-untyped-call]
