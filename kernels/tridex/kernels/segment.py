"""A segment: packed documents in the memory of one device, all that MaxSim reads of an index."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import tensor_over
from .codecs import Codec

MAX_DOCUMENTS = 2**31 - 1
"""Documents in a segment. A row must fit the lower half of a 64-bit sort key (ranking.py)."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Documents, one after the other. All tensors are contiguous and on one device.

    Raises ValueError where a field contradicts another or is not what is said here.
    """

    codec: Codec
    dim: int
    codes: torch.Tensor
    """uint8 [tokens, codec.bytes_per_token(dim)]"""
    offsets: torch.Tensor
    """int64 [documents + 1], from 0 up to tokens: document d has the tokens offsets[d] to offsets[d + 1]."""
    live: torch.Tensor
    """int32 [ceil(documents / 32)]: document d is searched where bit d % 32 of word d // 32 is set (pack_bitmap)."""

    def __post_init__(self) -> None:
        if self.dim < 1:
            raise ValueError(f"dim is {self.dim}; expected at least 1")
        _check(self.codes, "codes", torch.uint8, ("tokens", self.codec.bytes_per_token(self.dim)), self.device)
        if self.device.type == "cuda" and self.codes.data_ptr() % 16:
            raise ValueError(f"codes starts at address {self.codes.data_ptr()}; expected a multiple of 16")
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
        _check(self.live, "live", torch.int32, (_words(self.documents),), self.device)

    @classmethod
    def from_numpy(
        cls,
        codec: Codec,
        dim: int,
        codes: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        live: NDArray[np.bool_] | None = None,
        device: torch.device | str = "cpu",
    ) -> Segment:
        """A segment over arrays: without a copy of codes and offsets on the CPU, read-only ones included.

        codes: uint8 [tokens, codec.bytes_per_token(dim)]; offsets: int64 [documents + 1];
        live: bool [documents], all where None.
        """
        if live is None:
            live = np.ones(max(len(offsets) - 1, 0), np.bool_)
        return cls(
            codec,
            dim,
            tensor_over(codes).to(device),
            tensor_over(offsets).to(device),
            pack_bitmap(live).to(device),
        )

    def with_live(self, live: torch.Tensor) -> Segment:
        """The same documents with other ones alive; codes and offsets are shared.

        live: int32 [ceil(documents / 32)] on any device, what pack_bitmap returns.
        """
        live = live.to(self.device)
        _check(live, "live", torch.int32, (_words(self.documents),), self.device)
        segment = copy.copy(self)
        object.__setattr__(segment, "live", live)
        return segment

    @property
    def documents(self) -> int:
        """Documents, dead ones included."""
        return len(self.offsets) - 1

    @property
    def tokens(self) -> int:
        """Tokens of all documents, dead ones included."""
        return len(self.codes)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.codes.device


def pack(documents: Sequence[NDArray[np.float32]], codec: Codec, device: torch.device | str = "cpu") -> Segment:
    """Encodes documents, one or more, into a segment: document i is row i.

    documents: float32 [tokens, dim] each; tokens may be 0. Raises ValueError as Codec.encode does.
    """
    if not documents:
        raise ValueError("documents is empty; expected at least one document")
    offsets = np.zeros(len(documents) + 1, np.int64)
    np.cumsum([len(document) for document in documents], out=offsets[1:])
    shapes = {document.shape[1:] for document in documents}
    if len(shapes) > 1:
        raise ValueError(f"documents have the dims {sorted(shapes)}; expected one [tokens, dim] for all")
    embeddings = np.concatenate(documents)
    return Segment.from_numpy(codec, embeddings.shape[-1], codec.encode(embeddings), offsets, device=device)


def pack_bitmap(live: NDArray[np.bool_]) -> torch.Tensor:
    """Bools [documents] to a bitmap on the CPU: int32 [ceil(documents / 32)], the lowest bit first, padded with 0.

    >>> pack_bitmap(np.array([True, False, True])).tolist()
    [5]
    """
    if live.dtype != np.bool_ or live.ndim != 1:
        raise ValueError(f"live has dtype {live.dtype} and shape {list(live.shape)}; expected bool [documents]")
    bits = np.zeros(_words(len(live)) * 32, np.bool_)
    bits[: len(live)] = live
    return torch.from_numpy(np.packbits(bits, bitorder="little").view("<i4"))


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
