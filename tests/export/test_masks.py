"""Attention masks as the graph makes them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.masking_utils import (
    bidirectional_mask_function,
    eager_mask,
    sliding_window_bidirectional_mask_function,
)

from tridex.export.masks import broadcast_mask


@pytest.mark.parametrize("reach", [None, 4])
def test_masks_are_those_of_transformers(reach: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    sees = bidirectional_mask_function if reach is None else sliding_window_bidirectional_mask_function(reach)
    options: dict[str, Any] = {
        "batch_size": 3,
        "q_length": 12,
        "kv_length": 12,
        "mask_function": sees,
        "attention_mask": torch.rand((3, 12), generator=generator) < 0.7,
        "dtype": torch.float16,
    }
    expected = eager_mask(**options)
    assert torch.equal(broadcast_mask(**options).expand(expected.shape), expected)
    options["attention_mask"] = None
    assert torch.equal(broadcast_mask(**options), eager_mask(**options))
