"""Which tokens see no key, and what the graph is then traced with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import DIM, HIDDEN, byte_pair, modern_bert, normalise, projection, sentence_transformers
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from tridex.export.blind_tokens import attention_for, blind_tokens, local_reach
from tridex.export.checkpoint import backbone_of, rules_of, tokenizer_of

MASK = st.lists(st.integers(0, 1), min_size=12, max_size=12).map(np.array)


@given(attended=MASK, scoring=MASK, reach=st.none() | st.integers(0, 12))
def test_blind_are_those_without_a_key_in_reach(attended: Any, scoring: Any, reach: int | None) -> None:
    expected = [
        not any(attended[k] and (reach is None or abs(k - i) <= reach) for k in range(12))
        for i in range(12)
        if scoring[i]
    ]
    assert blind_tokens(attended, scoring, reach).tolist() == expected


@pytest.mark.parametrize(
    ("expansion", "attention"),
    [
        (None, "eager"),
        ({"strategy": "fixed", "length": 30, "attend": True}, "eager"),
        # [CLS] and [SEP] are attended to; local attention reaches 4 tokens.
        ({"strategy": "fixed", "length": 6, "attend": False}, "eager"),
        ({"strategy": "fixed", "length": 7, "attend": False}, "eager_zeros_where_blind"),
        ({"strategy": "min", "length": 7, "attend": False}, "eager_zeros_where_blind"),
    ],
)
def test_zeros_are_for_expansion_out_of_reach(tmp_path: Path, expansion: Any, attention: str) -> None:
    head = [projection(HIDDEN, DIM), MultiVectorMask(), normalise()]
    sentence_transformers(tmp_path, byte_pair(), modern_bert, head, query_length=30, query_expansion=expansion)
    model = MultiVectorEncoder(str(tmp_path), device="cpu")
    backbone = backbone_of(model).model
    assert local_reach(backbone.config) == 4
    assert attention_for(backbone, tokenizer_of(model), rules_of(model)) == attention
    backbone.set_attn_implementation("eager")
    assert attention_for(backbone, tokenizer_of(model), rules_of(model)) == "eager"


def test_zeros_where_blind_are_what_sdpa_gives(reference: Callable[[str], MultiVectorEncoder]) -> None:
    """In every layer, whatever is attended to; nothing at all in the last text."""
    backbone = backbone_of(reference("native_far_expansion")).model
    ids = torch.arange(3 * 25).reshape(3, 25) % 90
    attended = torch.zeros_like(ids)
    attended[0, :20], attended[1, 3:5] = 1, 1
    outputs = {}
    for attention in ("eager_zeros_where_blind", "eager", "sdpa"):
        backbone.set_attn_implementation(attention)
        with torch.inference_mode():
            outputs[attention] = backbone(input_ids=ids, attention_mask=attended).last_hidden_state
    torch.testing.assert_close(outputs["eager_zeros_where_blind"], outputs["sdpa"], rtol=0, atol=1e-5)
    assert (outputs["eager"] - outputs["sdpa"]).abs().max() > 0.1
