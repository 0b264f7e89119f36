"""Tokens for the encoder."""

from __future__ import annotations

import numpy as np

from tridex.encoding import TokenBatch
from tridex.protocol import models
from tridex.serving.backend.service import Request, invalid


def parse_token_batch(request: Request, *, widest: int, vocabulary: int) -> TokenBatch:
    """The tokens of INPUT_IDS, ATTENTION_MASK and EMBEDDING_MASK, [texts, tokens] each, which the graph can run.

    A text that it cannot run would fail the others of its batch.

    Args:
        widest: The most tokens of a text.
        vocabulary: How many token ids there are.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    ids, *masks = (np.asarray(request.inputs[tensor.name]) for tensor in models.ENCODER.inputs)
    if ids.ndim != 2 or not 0 < ids.shape[1] <= widest:
        raise invalid(f"input {models.INPUT_IDS.name} has shape {list(ids.shape)}; expected [texts, 1 to {widest}]")
    for tensor, mask in zip(models.ENCODER.inputs[1:], masks, strict=True):
        if mask.shape != ids.shape:
            raise invalid(
                f"input {tensor.name} has shape {list(mask.shape)}; expected {list(ids.shape)}, as "
                f"{models.INPUT_IDS.name}"
            )
        if mask.min() < 0 or mask.max() > 1:
            raise invalid(f"input {tensor.name} holds {mask.min()} to {mask.max()}; expected 0 and 1")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise invalid(f"input {models.INPUT_IDS.name} holds {ids.min()} to {ids.max()}; expected 0 to {vocabulary - 1}")
    return TokenBatch(ids, *masks)
