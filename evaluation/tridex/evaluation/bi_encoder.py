"""The bi-encoder baseline: one vector per text, by Sentence Transformers, and an exact search over all of them.

It runs in this process without a server, so its latency leaves out what serving adds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from .dataset import Dataset

_BATCH = 32
_STEP = 64
"""Documents between two reports of progress."""


class BiEncoder:
    """A model with mean pooling, or with its own pooling, and cosine similarity; a LocalSystem.

    `model` is a folder or a Hub id. Documents' vectors are cached in `cache`, by a hash of the weights and the texts.
    `device` is torch's, for encoding.
    """

    def __init__(self, model: str, cache: Path, device: str = "cpu") -> None:
        self._model = SentenceTransformer(model, device=device)
        self._cache = cache
        self._ids: list[str] = []
        self._vectors: NDArray[np.float32] = np.empty((0, 0), np.float32)

    @property
    def bytes_per_document(self) -> int:
        """A float32 vector's."""
        return 4 * int(self._vectors.shape[1])

    def index(self, dataset: Dataset, advance: Callable[[int], None] | None = None) -> None:
        """Makes the dataset's documents those that are searched.

        `advance` is told how many documents were encoded since it was last told, in place of a progress bar.
        """
        documents = list(dataset.documents())
        self._ids = [document.id for document in documents]
        texts = [document.text for document in documents]
        file = self._cache / f"{dataset.name}-{self._digest(texts)}.npy"
        if not file.exists():
            vectors = self._encode(texts) if advance is None else self._encode_in_steps(texts, advance)
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(".partial.npy")
            np.save(partial, vectors)
            partial.replace(file)
        self._vectors = np.load(file)

    def search(self, text: str, top_k: int) -> dict[str, float]:
        """The documents with the best cosine, best first; ties by id."""
        (query,) = self._encode([text], show_progress_bar=False)
        scores = self._vectors @ query
        best = np.argpartition(-scores, min(top_k, len(scores) - 1))[:top_k]
        found = sorted((-float(scores[i]), self._ids[i]) for i in best)
        return {key: -score for score, key in found}

    def _encode_in_steps(self, texts: Sequence[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
        encoded = []
        for start in range(0, len(texts), _STEP):
            encoded.append(self._encode(texts[start : start + _STEP], show_progress_bar=False))
            advance(len(encoded[-1]))
        return np.concatenate(encoded)

    def _encode(self, texts: Sequence[str], *, show_progress_bar: bool = True) -> NDArray[np.float32]:
        vectors = self._model.encode(
            list(texts), batch_size=_BATCH, show_progress_bar=show_progress_bar, normalize_embeddings=True
        )
        return np.asarray(vectors, np.float32)

    def _digest(self, texts: Sequence[str]) -> str:
        digest = hashlib.sha256()
        for name, weights in self._model.state_dict().items():
            digest.update(name.encode() + weights.cpu().numpy().tobytes())
        for text in texts:
            digest.update(f"{len(text)} {text}".encode())
        return digest.hexdigest()[:16]
