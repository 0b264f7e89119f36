"""Attention masks of the traced graph, so that a GPU runs all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from transformers.masking_utils import (
    bidirectional_mask_function,
    eager_mask,
    sliding_window_bidirectional_mask_function,
)

from tridex.encoding import Artifact
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


@pytest.mark.parametrize(("variant", "is_local"), [("stanford_attended", False), ("native_far_expansion", True)])
def test_no_graph_looks_its_mask_up(exported: Callable[[str, str], Artifact], variant: str, is_local: bool) -> None:
    """Of local attention the distances are counted out, which a GPU does."""
    operations = {node.op_type for node in onnx.load(exported(variant, "fp32").model_path).graph.node}
    assert "GatherND" not in operations
    assert is_local or "Range" not in operations
