"""A fine-tuned model as what its weights differ in from those it began with: matrices of low rank, a tenth of its size.

A change of rank r to a weight W [out, in] is up [out, r] times down [r, in] (Hu et al. 2021, section 4.1). Both are in
float16 with magnitudes below 1, so that float64 multiplies and adds them without rounding: the weights that come of it
have the same bits, and the checkpoint the same hash, on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

_UP, _DOWN = ".up", ".down"

_NEGLIGIBLE = 1e-4
"""Of the largest singular value: what float16 leaves of it, and far above what float32 weights add by rounding."""

Weights = Mapping[str, torch.Tensor]


def changes_of(trained: Weights, base: Weights) -> dict[str, torch.Tensor]:
    """What `apply_changes` needs to make `trained` of `base`, each of the rank that it has (Eckart and Young 1936).

    Weights that are the same in both are left out. Raises ValueError where others changed than matrices.
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
