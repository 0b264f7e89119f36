"""How tokens lie in memory: as rows of bytes in the store, as columns in a segment."""

from __future__ import annotations

from typing import NamedTuple

import torch

from .codec import Layout


class Columns(NamedTuple):
    """Tokens as a segment holds them: each column is contiguous, and so aligned."""

    codes: torch.Tensor
    """uint8 [tokens, code_bytes(dim)]"""
    scales: torch.Tensor | None = None
    """float16 [tokens], for the codecs with scales."""
    centroid_ids: torch.Tensor | None = None
    """int16 [tokens], the bits of a uint16, for the codecs with a codebook."""

    def to_rows(self) -> torch.Tensor:
        """Rows of the store, uint8 [tokens, bytes]: codes, then the centroid's id, then the scale, little-endian.

        Codes alone are not copied.
        """
        tail = [column[:, None].view(torch.uint8) for column in (self.centroid_ids, self.scales) if column is not None]
        return torch.cat([self.codes, *tail], dim=1) if tail else self.codes


def from_rows(rows: torch.Tensor, layout: Layout) -> Columns:
    """What `Columns.to_rows` was called on, on the rows' device. Codes alone share the rows' memory."""
    if not layout.tail_bytes:
        return Columns(rows)
    width = rows.shape[1] - layout.tail_bytes
    tail = _copied(rows[:, width:]).view(torch.int16)
    scales = _copied(tail[:, -1]).view(torch.float16) if layout.has_scales else None
    return Columns(_copied(rows[:, :width]), scales, _copied(tail[:, 0]) if layout.has_codebook else None)


def _copied(column: torch.Tensor) -> torch.Tensor:
    """In memory of its own: the slice of a single row is contiguous as it is, wherever it starts."""
    return column.clone(memory_format=torch.contiguous_format)
