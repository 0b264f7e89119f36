"""Collections of residual codecs: the codebook is kept with them, and every write encodes with it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tridex import kernels
from tridex.index import Collection, CollectionSpec, Document, Follower, Store, TokenIndexError
from tridex.index.storage.codebook_file import check_codebook
from tridex.kernels import Codec, decode, encode

DIM = 32
CPU = torch.device("cpu")


def tokens_of(seed: int) -> NDArray[np.float32]:
    """Unit vectors around a few directions, one to nine of them."""
    directions = np.random.default_rng(7).normal(size=(8, DIM))
    rng = np.random.default_rng(seed)
    tokens = directions[rng.integers(0, 8, 1 + seed % 9)] + 0.3 * rng.normal(size=(1 + seed % 9, DIM))
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def sample() -> NDArray[np.float32]:
    return np.concatenate([tokens_of(seed) for seed in range(400)])


def make(store: Store, codec: Codec, sample: NDArray[np.float32]) -> Collection:
    codebook = kernels.train_codebook(sample, codec, centroids=8)
    return store.create("c", CollectionSpec(DIM, codec, "f" * 64), codebook)


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_search_is_maxsim_over_the_decoded_codes(tmp_path: Path, codec: Codec, sample: NDArray[np.float32]) -> None:
    collection = make(Store(tmp_path), codec, sample)
    follower = Follower(Store(tmp_path), "c", CPU)
    # Several segments, merged ones among them, and a deleted and a replaced document.
    for first in range(0, 60, 12):
        keys = range(first, first + 12)
        collection.upsert([Document(str(key), "t", {}) for key in keys], [tokens_of(key) for key in keys])
        follower.refresh()
    collection.delete(["5"])
    collection.upsert([Document("7", "t", {})], [tokens_of(100)])
    kept = {str(key): tokens_of(key) for key in range(60) if key != 5} | {"7": tokens_of(100)}

    decoded = {
        key: torch.from_numpy(decode(codec, encode(codec, tokens, collection.codebook), collection.codebook))
        for key, tokens in kept.items()
    }
    queries = torch.from_numpy(np.stack([tokens_of(8 + 9 * i)[:8] for i in range(3)]))
    rankings = follower.refresh().search(queries, torch.ones(queries.shape[:2], dtype=torch.bool), len(kept))
    for query, ranking in zip(queries, rankings, strict=True):
        assert set(ranking.ids) == set(kept)
        expected = [float((query @ decoded[key].T).max(dim=1).values.sum()) for key in ranking.ids]
        # Queries are rounded to int8 by token: 8 tokens, each within half of 1/127 of its largest number.
        np.testing.assert_allclose(ranking.scores, expected, atol=8 * 0.5 / 127)


def test_the_codebook_comes_back_with_the_collection(tmp_path: Path, sample: NDArray[np.float32]) -> None:
    made = make(Store(tmp_path), Codec.RESIDUAL4, sample).codebook
    made_again = Store(tmp_path).open("c").codebook
    assert made is not None and made_again is not None
    assert torch.equal(made.centroids, made_again.centroids) and torch.equal(
        made.bucket_weights, made_again.bucket_weights
    )
    assert made.step == made_again.step


def test_it_outlives_compaction_and_clean_up(tmp_path: Path, sample: NDArray[np.float32]) -> None:
    collection = make(Store(tmp_path), Codec.RESIDUAL4, sample)
    for key in range(20):
        collection.upsert([Document(str(key), "t", {})], [tokens_of(key)])
    collection.dataset.optimize.compact_files()
    collection.dataset.cleanup_old_versions(older_than=timedelta(0), delete_unverified=True)
    assert next(collection.folder.glob("codebook-*.npz")).is_file()


def test_a_changed_or_missing_codebook_is_refused(tmp_path: Path, sample: NDArray[np.float32]) -> None:
    file = next(make(Store(tmp_path), Codec.RESIDUAL2, sample).folder.glob("codebook-*.npz"))
    check_codebook.cache_clear()  # A process that starts has nothing cached.
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(TokenIndexError, match=r"codebook-.* was changed"):
        Store(tmp_path).open("c")
    file.unlink()
    with pytest.raises(TokenIndexError, match="cannot be read"):
        Store(tmp_path).open("c")


def test_a_codec_has_its_codebook_or_none(tmp_path: Path, sample: NDArray[np.float32]) -> None:
    store = Store(tmp_path)
    with pytest.raises(ValueError, match="codebook is None; expected the codebook of residual4"):
        store.create("c", CollectionSpec(DIM, Codec.RESIDUAL4, "f" * 64))
    codebook = kernels.train_codebook(sample, Codec.RESIDUAL2, centroids=8)
    with pytest.raises(ValueError, match="codebook is given; expected None for int8"):
        store.create("c", CollectionSpec(DIM, Codec.INT8, "f" * 64), codebook)
    with pytest.raises(ValueError, match="codebook has 4 bucket weights; expected 16"):
        store.create("c", CollectionSpec(DIM, Codec.RESIDUAL4, "f" * 64), codebook)
    assert store.names() == []
