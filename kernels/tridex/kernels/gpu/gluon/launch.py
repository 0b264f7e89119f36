"""Launches the Gluon kernel of a batch. Nothing here is imported before a kernel is compared with its twin."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tridex.kernels.codec import Codec
from tridex.kernels.gpu.codes import code_constants

from .roles import Roles
from .search import merge_splits, search_batch


def search(
    roles: Roles,
    splits: int,
    codec: Codec,
    prepared: Sequence[torch.Tensor],
    stored: Sequence[torch.Tensor | None],
    scores: torch.Tensor,
    rows: torch.Tensor,
    scratch: dict[str, torch.Tensor],
    sizes: dict[str, int],
) -> None:
    """The two launches behind prepare_queries: what search_documents does in one.

    prepared: The queries' numbers, weights and units. stored: arguments of search_documents, from codes to bitmap.
    scratch, sizes: more of them, by their names.
    """
    numbers, weights, units = prepared
    keys, least, merged = scratch["p_keys"], scratch["p_least"], scratch["p_merged"]
    search_batch[(splits * sizes["groups"],)](
        numbers,
        weights,
        *stored,
        keys,
        least,
        scratch["p_chunks"],
        scratch["p_ends"],
        scratch["p_sums"],
        scratch["p_counters"],
        **sizes,
        CODES_PER_BYTE=code_constants(codec)["CODES_PER_BYTE"],
        **roles.constants,
    )
    batch, top_k = scores.shape
    merge_splits[(batch,)](
        keys, least, merged, units, scores, rows, splits, sizes["kept"], sizes["capacity"], top_k, num_warps=4
    )
