"""Codecs: how a document's token embeddings are kept, in the store as bytes and in a segment as the same bytes."""

from __future__ import annotations

from enum import Enum

import numpy as np
import torch
from numpy.typing import NDArray

from .arrays import tensor_over


class Codec(Enum):
    """One number per dimension, little-endian, of the type the codec is named after."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> torch.dtype:
        """The type of a code."""
        return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[self.value]

    def bytes_per_token(self, dim: int) -> int:
        """Bytes of one token embedding of `dim` numbers."""
        return dim * self.dtype.itemsize

    def encode(self, embeddings: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Rounds token embeddings to codes.

        embeddings: float32 [tokens, dim].
        Returns uint8 [tokens, bytes_per_token(dim)], which may share the embeddings' memory.
        Raises ValueError for another dtype or shape, and for a number that is not finite or not once it is rounded.
        """
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or not embeddings.shape[1]:
            raise ValueError(
                f"embeddings has dtype {embeddings.dtype} and shape {list(embeddings.shape)}; "
                "expected float32 [tokens, dim]"
            )
        numbers = tensor_over(np.ascontiguousarray(embeddings)).to(self.dtype)
        if not bool(torch.isfinite(numbers).all()):
            worst = embeddings.flat[int(torch.isfinite(numbers).logical_not().flatten().nonzero()[0])]
            raise ValueError(f"embeddings holds {worst}; expected finite numbers that {self.value} can hold")
        codes: NDArray[np.uint8] = numbers.view(torch.uint8).numpy()
        return codes

    def decode(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Codes uint8 [tokens, bytes_per_token(dim)] to embeddings float32 [tokens, dim]."""
        embeddings: NDArray[np.float32] = tensor_over(np.ascontiguousarray(codes)).view(self.dtype).float().numpy()
        return embeddings
