"""The order of results as one number: the larger the key, the better the document.

A key holds the score in its upper half, as an integer of the same order, and the row in its lower half, counted down.
So the order is by score, ties go to the lower row, and no two keys are equal: any top-k over keys is deterministic.
The Triton language has the same formula in gpu/top_k.py.
"""

from __future__ import annotations

import torch
from torch.nn.functional import pad

_LAST_ROW = 2**32 - 1
_MAGNITUDE = 2**31 - 1
_NOTHING = float("-inf")


def sort_keys(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Keys int64 of scores float32 [...] and rows int64 [...], 0 <= row < 2**32."""
    bits = (scores + 0.0).view(torch.int32).long()  # -0.0 + 0.0 is 0.0: equal scores have equal bits.
    return (bits ^ ((bits >> 31) & _MAGNITUDE)) << 32 | (_LAST_ROW - rows)


def top_k_of_keys(keys: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest keys of each query: scores float32 and rows int64, both [batch, top_k], best first.

    keys: int64 [batch, n], n of any size. What has the score -inf gets the row -1, and so do places past the n-th.
    """
    kept = torch.topk(keys, min(top_k, keys.shape[1]), dim=1).values
    ordered = kept >> 32
    scores = (ordered ^ ((ordered >> 31) & _MAGNITUDE)).int().view(torch.float32)
    rows = torch.where(scores == _NOTHING, -1, _LAST_ROW - (kept & _LAST_ROW))
    missing = (0, top_k - kept.shape[1])
    return pad(scores, missing, value=_NOTHING), pad(rows, missing, value=-1)
