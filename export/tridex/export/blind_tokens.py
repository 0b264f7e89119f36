"""Tokens that see no key: query expansion that is not attended to, beyond the reach of local attention.

Such a token's attention has nothing to average, and the source library's implementations differ there: sdpa, the
default on a CPU, gives zeros; eager gives the mean of every value, padding included. The graph is traced through eager,
which is the fastest. Where tokens can be blind and the checkpoint is loaded with sdpa, the graph does as sdpa.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface

from tridex.encoding import EncodingRules

from .masks import broadcast_mask


def local_reach(config: Any) -> int | None:
    """How many tokens a local attention layer sees on either side; None if every layer sees all."""
    has_local = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    return int(config.sliding_window) if has_local else None


def blind_tokens(
    attention_mask: NDArray[np.int64], embedding_mask: NDArray[np.int64], reach: int | None
) -> NDArray[np.bool_]:
    """Which of a text's scoring tokens see no key in some layer: bool [scoring tokens]; both masks [tokens]."""
    attended, scoring = np.flatnonzero(attention_mask), np.flatnonzero(embedding_mask)
    distances = np.abs(scoring[:, None] - attended).min(axis=1, initial=len(attention_mask))
    blind: NDArray[np.bool_] = distances > (len(attention_mask) - 1 if reach is None else reach)
    return blind


def attention_for(backbone: Any, tokenizer: tokenizers.Tokenizer, rules: EncodingRules) -> str:
    """The attention implementation to trace the backbone, a transformers model, with."""
    expansion = rules.expansion
    if expansion is None or expansion.attend or backbone.config._attn_implementation != "sdpa":
        return "eager"
    shortest = len(tokenizer.encode(rules.query.prefix).ids)
    scoring = np.ones(max(expansion.length, shortest), np.int64)
    attended = (np.arange(len(scoring)) < shortest).astype(np.int64)
    return _ZEROS_WHERE_BLIND if blind_tokens(attended, scoring, local_reach(backbone.config)).any() else "eager"


_ZEROS_WHERE_BLIND = "eager_zeros_where_blind"


def _zeros_where_blind(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, **options: Any
) -> tuple[Tensor, Tensor]:
    """The model's own eager attention, [batch, tokens, heads, dim], times 0 where the mask hides every key."""
    eager = vars(sys.modules[type(module).__module__])["eager_attention_forward"]
    output, weights = eager(module, query, key, value, attention_mask, **options)
    sees = (attention_mask.amax(dim=-1) == 0).transpose(1, 2)[..., None]
    return output * sees.to(output.dtype), weights


AttentionInterface.register(_ZEROS_WHERE_BLIND, _zeros_where_blind)
AttentionMaskInterface.register(_ZEROS_WHERE_BLIND, broadcast_mask)
