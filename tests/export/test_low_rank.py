"""Changes of low rank: they make the trained weights of the base, with the same bits wherever that is done."""

from __future__ import annotations

import pytest
import torch

from tridex.export.low_rank import apply_changes, changes_of


def trained_of(base: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    trained = {name: weight.clone() for name, weight in base.items()}
    for name in ("a", "b"):
        rows, columns = base[name].shape
        up, down = torch.randn(rows, rank, generator=generator), torch.randn(rank, columns, generator=generator)
        trained[name] += 0.01 * up @ down
    return trained


@pytest.fixture
def base() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"a": (96, 64), "b": (64, 200), "untouched": (64, 64), "bias": (96,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_changes_make_the_trained_weights(base: dict[str, torch.Tensor]) -> None:
    trained = trained_of(base, rank=16)
    changes = changes_of(trained, base)
    assert {name: tuple(change.shape) for name, change in changes.items()} == {
        "a.up": (96, 16), "a.down": (16, 64), "b.up": (64, 16), "b.down": (16, 200)
    }  # fmt: skip
    made = {name: weight.clone() for name, weight in base.items()}
    apply_changes(made, changes)
    for name in base:
        difference = (trained[name] - base[name]).abs().max().clamp(min=1)
        torch.testing.assert_close(made[name], trained[name], rtol=0, atol=float(2e-3 * difference))


def test_the_order_of_the_sums_does_not_matter(base: dict[str, torch.Tensor]) -> None:
    changes = changes_of(trained_of(base, rank=16), base)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(2))
    other = {key: change[:, order] if key.endswith(".up") else change[order] for key, change in changes.items()}
    results = []
    for some in (changes, other):
        weights = {name: weight.clone() for name, weight in base.items()}
        apply_changes(weights, some)
        results.append(weights)
    assert all(torch.equal(results[0][name], results[1][name]) for name in base)


def test_a_changed_vector_is_refused(base: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"bias changed and has shape \[96\]; expected a matrix"):
        changes_of(base | {"bias": base["bias"] + 1}, base)
