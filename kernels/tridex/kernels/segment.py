"""A segment: packed documents in the memory of one device, all that MaxSim reads of an index."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import tensor_over
from .codebook import Codebook
from .codec import Codec
from .codecs import encode, split_rows
from .columns import Columns

MAX_DOCUMENTS = 2**31 - 1
"""Documents in a segment. A row must fit the lower half of a 64-bit sort key (top_k.py)."""

MAX_DOCUMENT_TOKENS = 2**30
"""Tokens of one document. Places within a document are counted in 32 bits; everything else is in 64."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Documents, one after the other. All tensors are contiguous and on one device.

    Raises:
        ValueError: A field contradicts another or is not what is said here.
    """

    codec: Codec
    dim: int
    codes: torch.Tensor
    """uint8 [tokens, codec.code_bytes(dim)]"""
    offsets: torch.Tensor
    """int64 [documents + 1], from 0 up to tokens: document d has the tokens offsets[d] to offsets[d + 1]."""
    live: torch.Tensor
    """int32 [ceil(documents / 32)]: document d is searched where bit d % 32 of word d // 32 is set (pack_bitmap). The
    tokens of the others, deleted or filtered out, are not read."""
    scales: torch.Tensor | None = None
    """float16 [tokens] for the codecs with scales, None for the others; what split_rows returns."""
    centroid_ids: torch.Tensor | None = None
    """int16 [tokens], the bits of a uint16 below the number of centroids, for the codecs with a codebook."""
    codebook: Codebook | None = None
    """None for the codecs without."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim is {self.dim}; expected at least 1")
        _check(self.codes, "codes", torch.uint8, ("tokens", self.codec.code_bytes(self.dim)), self.device)
        self._check_alignment("codes", self.codes, 16)
        _check(self.offsets, "offsets", torch.int64, ("documents + 1",), self.device)
        if not 0 <= self.documents <= MAX_DOCUMENTS:
            raise ValueError(f"offsets has length {len(self.offsets)}; expected 1 to {MAX_DOCUMENTS + 1}")
        if self.offsets[0] != 0 or self.offsets[-1] != self.tokens:
            raise ValueError(
                f"offsets goes from {self.offsets[0]} to {self.offsets[-1]}; "
                f"expected from 0 to {self.tokens}, the number of tokens in codes"
            )
        falls = (self.offsets[1:] < self.offsets[:-1]).nonzero()
        if len(falls):
            row = int(falls[0])
            raise ValueError(
                f"offsets falls from {self.offsets[row]} to {self.offsets[row + 1]} after document {row}; "
                "expected ascending"
            )
        lengths = self.offsets.diff()
        if (lengths > MAX_DOCUMENT_TOKENS).any():
            row = int(lengths.argmax())
            raise ValueError(
                f"offsets gives document {row} {lengths[row]} tokens; expected at most {MAX_DOCUMENT_TOKENS}"
            )
        _check(self.live, "live", torch.int32, (_words(self.documents),), self.device)
        self._check_columns()

    def _check_columns(self) -> None:
        """Raises ValueError where scales, centroid_ids or codebook are not the codec's."""
        columns = [
            ("scales", self.scales, torch.float16, self.codec.layout.has_scales),
            ("centroid_ids", self.centroid_ids, torch.int16, self.codec.layout.has_codebook),
        ]
        for name, column, dtype, wanted in columns:
            if (column is not None) != wanted:
                raise ValueError(
                    f"{name} is {'None' if column is None else 'given'}; "
                    f"expected {f'{dtype} [tokens]' if wanted else 'None'} for {self.codec.value}"
                )
            if column is not None:
                _check(column, name, dtype, (self.tokens,), self.device)
                self._check_alignment(name, column, 4)
        self.codec.check_codebook(self.codebook, self.dim)
        if self.codebook is not None and self.codebook.centroids.device != self.device:
            raise ValueError(f"codebook is on {self.codebook.centroids.device}; expected {self.device}")
        if self.codebook is not None and self.centroid_ids is not None and self.tokens:
            largest = int((self.centroid_ids.int() & 0xFFFF).max())
            if largest >= len(self.codebook.centroids):
                raise ValueError(
                    f"centroid_ids holds {largest}; expected ids below {len(self.codebook.centroids)}, "
                    "the number of centroids"
                )

    def _check_alignment(self, name: str, column: torch.Tensor, unit: int) -> None:
        """The kernels read a GPU's memory in words of so many bytes."""
        if self.device.type == "cuda" and column.data_ptr() % unit:
            raise ValueError(f"{name} starts at address {column.data_ptr()}; expected a multiple of {unit}")

    @classmethod
    def from_numpy(
        cls,
        codec: Codec,
        dim: int,
        codes: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        live: NDArray[np.bool_] | None = None,
        device: torch.device | str = "cpu",
        codebook: Codebook | None = None,
    ) -> Segment:
        """A segment over rows of the store: on the CPU without a copy of the offsets, and of codes that have no scales.

        Args:
            codec: Of the rows.
            dim: Dimensions of a token embedding.
            codes: uint8 [tokens, codec.bytes_per_token(dim)], what encode returns.
            offsets: int64 [documents + 1].
            live: bool [documents], all where None.
            device: Where the segment is to be.
            codebook: The one that the codes were made with; None for the codecs without.

        Raises:
            ValueError: An argument contradicts another or is not as said.
        """
        if live is None:
            live = np.ones(max(len(offsets) - 1, 0), np.bool_)
        rows = tensor_over(codes)
        _check(rows, "codes", torch.uint8, ("tokens", codec.bytes_per_token(dim)), rows.device)
        columns = split_rows(codec, rows.to(device))
        return cls(
            codec,
            dim,
            columns.codes,
            tensor_over(offsets).to(device),
            pack_bitmap(live).to(device),
            columns.scales,
            columns.centroid_ids,
            None if codebook is None else codebook.to(device),
        )

    def with_live(self, live: torch.Tensor) -> Segment:
        """The same documents with another bitmap of those to search; all else is shared.

        Args:
            live: int32 [ceil(documents / 32)], what pack_bitmap returns; one on the segment's device is not copied.

        Raises:
            ValueError: The bitmap has another dtype or shape.
        """
        live = live.to(self.device)
        _check(live, "live", torch.int32, (_words(self.documents),), self.device)
        segment = copy.copy(self)
        object.__setattr__(segment, "live", live)
        return segment

    def document(self, row: int) -> Segment:
        """A segment of one document alone, live, whose tokens are copied."""
        start, end = self.offsets[row : row + 2].tolist()
        one = [None if column is None else column[start:end].clone() for column in self.columns]
        codes, scales, centroid_ids = one
        assert codes is not None
        return Segment(
            self.codec,
            self.dim,
            codes,
            torch.tensor([0, end - start], device=self.device),
            pack_bitmap(np.ones(1, np.bool_)).to(self.device),
            scales,
            centroid_ids,
            self.codebook,
        )

    @property
    def columns(self) -> Columns:
        """The tokens."""
        return Columns(self.codes, self.scales, self.centroid_ids)

    @property
    def documents(self) -> int:
        """Documents, deleted ones included."""
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all documents, deleted ones included."""
        return len(self.codes)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.codes.device


def pack(
    documents: Sequence[NDArray[np.float32]],
    codec: Codec,
    device: torch.device | str = "cpu",
    codebook: Codebook | None = None,
) -> Segment:
    """Encodes documents into a segment: document i is row i.

    Args:
        documents: One or more, float32 [tokens, dim] each; tokens may be 0.
        codec: How tokens are stored.
        device: Where the segment is to be.
        codebook: The one of a codec with a codebook, None for the others.

    Raises:
        ValueError: There are no documents, their dims differ, or encode refuses them.
    """
    if not documents:
        raise ValueError("documents is empty; expected at least one document")
    offsets = np.zeros(len(documents) + 1, np.int64)
    np.cumsum([len(document) for document in documents], out=offsets[1:])
    shapes = {document.shape[1:] for document in documents}
    if len(shapes) > 1:
        raise ValueError(f"documents have the dims {sorted(shapes)}; expected one [tokens, dim] for all")
    embeddings = np.concatenate(documents)
    rows = encode(codec, embeddings, codebook)
    return Segment.from_numpy(codec, embeddings.shape[-1], rows, offsets, device=device, codebook=codebook)


def pack_bitmap(live: NDArray[np.bool_]) -> torch.Tensor:
    """Packs which documents are to be searched.

    >>> pack_bitmap(np.array([True, False, True])).tolist()
    [5]

    Args:
        live: bool [documents].

    Returns:
        int32 [ceil(documents / 32)] on the CPU, the lowest bit first, padded with 0.

    Raises:
        ValueError: It has another dtype or shape.
    """
    if live.dtype != np.bool_ or live.ndim != 1:
        raise ValueError(f"live has dtype {live.dtype} and shape {list(live.shape)}; expected bool [documents]")
    bits = np.zeros(_words(len(live)) * 32, np.bool_)
    bits[: len(live)] = live
    return torch.from_numpy(np.packbits(bits, bitorder="little").view("<i4"))


def unpack_bitmap(bitmap: torch.Tensor, documents: int) -> torch.Tensor:
    """What pack_bitmap was given.

    >>> unpack_bitmap(torch.tensor([5], dtype=torch.int32), 3).tolist()
    [True, False, True]

    Args:
        bitmap: int32 [ceil(documents / 32)].
        documents: How many.

    Returns:
        bool [documents], on the bitmap's device.
    """
    bits = bitmap[:, None] >> torch.arange(32, dtype=torch.int32, device=bitmap.device)
    return (bits & 1).flatten()[:documents] != 0


def _words(documents: int) -> int:
    return -(-documents // 32)


def _check(
    tensor: torch.Tensor, name: str, dtype: torch.dtype, shape: tuple[str | int, ...], device: torch.device
) -> None:
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or size == want for size, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits or tensor.dtype != dtype or tensor.device != device or not tensor.is_contiguous():
        raise ValueError(
            f"{name} is {tensor.dtype} {list(tensor.shape)} on {tensor.device}"
            f"{'' if tensor.is_contiguous() else ', not contiguous'}; "
            f"expected contiguous {dtype} [{', '.join(map(str, shape))}] on {device}"
        )
