"""The token embeddings that score, out of padded ones, without a wait for the device that they are on.

Needs torch, which the encoder on a CPU does without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray


def scoring_tokens(embeddings: Sequence[torch.Tensor], masks: Sequence[NDArray[np.int64]]) -> torch.Tensor:
    """Takes all of them in one operation: a mask on the device would be waited for, text by text.

    Args:
        embeddings: One or more, [texts, tokens or more, dim] each, on one device.
        masks: [texts, tokens] each, not 0 where a token scores.

    Returns:
        [scoring tokens, dim], one text's after the other's.
    """
    places = []
    end = 0
    for array, mask in zip(embeddings, masks, strict=True):
        text, token = np.nonzero(mask)
        places.append(end + text * array.shape[1] + token)
        end += array.shape[0] * array.shape[1]
    together = torch.cat([array.flatten(0, 1) for array in embeddings])
    wanted = torch.from_numpy(np.concatenate(places))
    if together.device.type != "cpu":
        wanted = wanted.pin_memory().to(together.device, non_blocking=True)
    return together[wanted]
