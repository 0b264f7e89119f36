"""Documents to the token embeddings that a collection stores."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import (
    Artifact,
    DeviceEncoder,
    DocumentReading,
    Encoder,
    TokenBatch,
    encode_in_small_batches,
    groups_of_texts,
    join_windows,
)
from tridex.kernels import TokenEmbeddings, on_host

_CHARACTERS_HELD = 1 << 18
"""Characters of the documents that are encoded together: the embeddings of some 30 MB of float32 at 128 dimensions."""

Embed = Callable[[Iterable[str], bool], Iterator[TokenEmbeddings]]
"""Texts, and whether long ones are read in windows, to each one's token embeddings, [tokens, dim], in order."""


class Embedder:
    """Embeds documents as a collection reads them; an `Embed`.

    On a GPU the embeddings stay there, so that codes are made there, too; but for pooled ones, which the host makes.
    """

    def __init__(self, artifact: Artifact, encoder: Encoder, reading: DocumentReading) -> None:
        self._tokenizer = artifact.tokenizer()
        self._encoder = encoder
        self._reading = reading

    def __call__(self, texts: Iterable[str], windows: bool) -> Iterator[TokenEmbeddings]:
        """Each document's token embeddings, float32 [tokens, dim], in order.

        A document's windows stand one after the other, so that MaxSim takes each query token's best over all of them.
        Only some of the documents are read ahead, and their embeddings held.

        Args:
            texts: The documents.
            windows: Whether long ones are read in windows; where not, they are cut.
        """
        reading = replace(self._reading, windows=windows)
        with ThreadPoolExecutor(1, "tokenise") as tokenising, ThreadPoolExecutor(1, "encode") as encoding:
            following: deque[Future[Iterator[TokenEmbeddings]]] = deque()
            for some in groups_of_texts(texts, _CHARACTERS_HELD):
                tokens = tokenising.submit(self._tokenizer.read, some, reading)
                following.append(encoding.submit(self._embedded, tokens, reading.pooling_factor))
                if len(following) > 1:
                    yield from following.popleft().result()
            if following:
                yield from following.popleft().result()

    def _embedded(
        self, tokens: Future[tuple[TokenBatch, NDArray[np.int64]]], pooling_factor: int
    ) -> Iterator[TokenEmbeddings]:
        """Each document's token embeddings; meanwhile the next ones are tokenised, and the last ones' codes made."""
        batch, document_of_row = tokens.result()
        rows = list(batch.rows())
        if not isinstance(self._encoder, DeviceEncoder):
            encoded = encode_in_small_batches(self._encoder.encode, rows)
            windows = [array[0][row.embedding_mask[0] != 0] for array, row in zip(encoded, rows, strict=True)]
            return join_windows(windows, np.bincount(document_of_row).tolist(), pooling_factor)
        scoring = self._encoder.encode_scoring(rows)
        of_row = batch.embedding_mask.sum(axis=1)
        if pooling_factor == 1:
            of_document = np.zeros(document_of_row[-1] + 1, np.int64)
            np.add.at(of_document, document_of_row, of_row)
            return iter(scoring.split(of_document.tolist()))
        windows = np.split(on_host(scoring), of_row.cumsum()[:-1])
        return join_windows(windows, np.bincount(document_of_row).tolist(), pooling_factor)
