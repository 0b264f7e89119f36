"""The queries of several searches as one tensor on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tridex.index import copy_to_host
from tridex.serving.modes import Queries


class QueryBatch(NamedTuple):
    """Queries of several searches, one search's after the other's, padded to the widest."""

    queries: Queries
    scoring_tokens: NDArray[np.int64]
    """[queries]: tokens that count."""
    finite: Callable[[], list[NDArray[Any]]]
    """Waits for one bool [queries]: whether all numbers of a query are finite. On its way to the host before the search
    begins, so that whoever has waited for the search waits no longer, whatever the device was given since."""

    @classmethod
    def of(cls, given: Sequence[tuple[Any, Any | None]], dim: int, device: torch.device) -> QueryBatch:
        """Brings queries to the device: masks in one copy, embeddings from the host in another.

        Args:
            given: Embeddings, float32 [queries, tokens, dim], and a mask, [queries, tokens], None where every token
                counts: numpy, or torch where they are on the device already.
            dim: Of a token embedding.
            device: Where they are searched.
        """
        ends = np.cumsum([len(embeddings) for embeddings, _ in given])
        rows = [slice(end - len(embeddings), end) for end, (embeddings, _) in zip(ends, given, strict=True)]
        tokens = max(embeddings.shape[1] for embeddings, _ in given)
        counts = _host_buffer((int(ends[-1]), tokens), torch.bool, device)
        for row, (embeddings, mask) in zip(rows, given, strict=True):
            width = embeddings.shape[1]
            counts.numpy()[row, :width] = True if mask is None else _on_host(mask) != 0
        embeddings = _embeddings([one for one, _ in given], rows, (int(ends[-1]), tokens, dim), device)
        queries = Queries(embeddings, counts.to(device, non_blocking=True))
        return cls(queries, counts.numpy().sum(axis=1), copy_to_host(_finite(embeddings)))

    def rows(self, rows: slice, tokens: int) -> Queries:
        """Some of the queries, which have so many tokens at most."""
        return Queries(self.queries.embeddings[rows, :tokens], self.queries.mask[rows, :tokens])

    def are_finite(self) -> NDArray[np.bool_]:
        """bool [queries]; waits for the device."""
        (finite,) = self.finite()
        return finite


def _embeddings(
    given: Sequence[Any], rows: Sequence[slice], shape: tuple[int, int, int], device: torch.device
) -> torch.Tensor:
    """All embeddings, zeros where a query has fewer tokens."""
    on_device = [(row, one) for row, one in zip(rows, given, strict=True) if isinstance(one, torch.Tensor)]
    if len(on_device) == len(given) and len({one.shape[1] for one in given}) == 1:
        return torch.cat(list(given))
    buffer = _host_buffer(shape, torch.float32, device)
    array = buffer.numpy()
    for row, one in zip(rows, given, strict=True):
        if not isinstance(one, torch.Tensor):
            array[row, : one.shape[1]] = one
    together = buffer.to(device, non_blocking=True)
    for row, one in on_device:
        together[row, : one.shape[1]] = one
    return together


def _finite(embeddings: torch.Tensor) -> torch.Tensor:
    if embeddings.device.type == "cpu":
        # numpy works on this thread; torch would wake others, which spin on cores that the search wants.
        return torch.from_numpy(np.isfinite(embeddings.numpy()).all(axis=(1, 2)))
    return torch.isfinite(embeddings).flatten(1).all(dim=1)


def _host_buffer(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros on the host, from where a GPU copies them while this thread goes on."""
    return torch.zeros(shape, dtype=dtype, pin_memory=device.type == "cuda")


def _on_host(mask: Any) -> Any:
    return mask.cpu().numpy() if isinstance(mask, torch.Tensor) else mask
