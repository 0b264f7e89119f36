"""What turns tokens into token embeddings: the exported graph in this process, or a server's encoder model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from .tokenizer import TokenBatch


class Encoder(Protocol):
    """Token embeddings of one checkpoint. A text's embeddings depend on no other text of its batch."""

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Encodes one batch.

        Returns:
            float32 [texts, tokens, dim], zero where the embedding mask is 0.
        """
        ...

    def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        """Encodes several batches, texts of different ones together where that is faster.

        Returns:
            Each batch's embeddings, float32 [texts, tokens, dim].
        """
        ...


@runtime_checkable
class DeviceEncoder(Encoder, Protocol):
    """An encoder on a GPU, whose embeddings can stay there. Their last bits depend on the batch."""

    def capture(self, widest: int) -> None:
        """Prepares for queries of up to so many tokens; takes seconds."""
        ...

    def encode_scoring(self, batches: Sequence[TokenBatch]) -> Any:
        """The embeddings that score, of all texts in their order: torch float32 [tokens, dim] on the device.

        Waits until they are there, so that any stream may read them.
        """
        ...

    def encode_on_device(self, batches: Sequence[TokenBatch]) -> list[Any]:
        """Each batch's embeddings, torch float32 [texts, tokens or more, dim] on the device, zeros behind its tokens.

        Waits for nothing.
        """
        ...
