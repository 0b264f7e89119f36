"""A fine-tuned model as the low-rank difference of its weights from the original ones, a tenth of its size.

A change of rank r to a weight W [out, in] is up [out, r] times down [r, in] (Hu et al. 2021, section 4.1). Both are in
float16 with magnitudes below 1, so that float64 multiplies and adds them without rounding: the resulting weights have
the same bits, and the checkpoint the same hash, on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

_UP, _DOWN = ".up", ".down"

_NEGLIGIBLE = 1e-4
"""Of the largest singular value: the precision of float16, and far above the rounding errors of float32 weights."""

Weights = Mapping[str, torch.Tensor]


def changes_of(trained: Weights, base: Weights) -> dict[str, torch.Tensor]:
    """The changes from `base` to `trained` as `apply_changes` takes them. Weights that are equal in both are left out.

    Raises:
        ValueError: A weight changed that is not a matrix, or changed by too much for the format.

    References:
        Eckart and Young 1936, "The approximation of one matrix by another of lower rank".
    """
    changes = {}
    for name, weight in trained.items():
        difference = weight.double() - base[name].double()
        if not difference.any():
            continue
        if difference.ndim != 2:
            raise ValueError(f"{name} changed and has shape {list(weight.shape)}; expected a matrix")
        left, values, right = torch.linalg.svd(difference, full_matrices=False)
        rank = int((values > _NEGLIGIBLE * values[0]).sum())
        root = values[:rank].sqrt()
        up, down = (left[:, :rank] * root).half(), (root[:, None] * right[:rank]).half()
        if max(up.abs().max(), down.abs().max()) >= 1:
            raise ValueError(f"{name} changed by {values[0]:.2g}; expected factors below 1")
        changes[name + _UP], changes[name + _DOWN] = up.contiguous(), down.contiguous()
    return changes


def apply_changes(weights: Weights, changes: Weights) -> None:
    """Adds the changes to float32 weights, in place."""
    for key, up in changes.items():
        if key.endswith(_UP):
            name = key.removesuffix(_UP)
            change = up.double() @ changes[name + _DOWN].double()
            weights[name].copy_((weights[name].double() + change).float())
