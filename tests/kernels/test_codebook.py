"""The residual codecs: codebooks that faiss trained, and what is left of a token."""

import numpy as np
import pytest
import torch

from tridex.kernels import Codebook, Codec, decode, encode, split_rows, train_codebook

DIM = 32
RESIDUALS = [Codec.RESIDUAL4, Codec.RESIDUAL2]


def clustered_tokens(count: int, seed: int, spread: float = 0.1) -> np.ndarray:
    """Unit vectors around 20 directions, as a checkpoint's token embeddings cluster."""
    directions = np.random.default_rng(99).standard_normal((20, DIM))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    tokens = directions[rng.integers(0, 20, count)] + spread * rng.standard_normal((count, DIM))
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)


SAMPLE = clustered_tokens(2000, seed=0)
UNSEEN = clustered_tokens(500, seed=1)
CODEBOOKS = {codec: train_codebook(SAMPLE, codec, centroids=20) for codec in RESIDUALS}


def error(codec: Codec, tokens: np.ndarray) -> float:
    decoded = decode(codec, encode(codec, tokens, CODEBOOKS[codec]), CODEBOOKS[codec])
    return float(np.linalg.norm(decoded - tokens, axis=1).mean())


def test_more_bits_mean_a_smaller_error() -> None:
    centroids = CODEBOOKS[Codec.RESIDUAL4].directions().numpy()
    nearest = centroids[(UNSEEN @ centroids.T).argmax(axis=1)]
    without_residual = float(np.linalg.norm(nearest - UNSEEN, axis=1).mean())
    assert error(Codec.RESIDUAL4, UNSEEN) < 0.25 * without_residual
    assert error(Codec.RESIDUAL4, UNSEEN) < 0.5 * error(Codec.RESIDUAL2, UNSEEN) < 0.3 * without_residual


@pytest.mark.parametrize("codec", RESIDUALS)
@pytest.mark.parametrize("length", [1.0, 0.01, 40.0])
def test_a_decoded_token_has_its_length(codec: Codec, length: float) -> None:
    tokens = UNSEEN * np.float32(length)
    decoded = decode(codec, encode(codec, tokens, CODEBOOKS[codec]), CODEBOOKS[codec])
    np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), length, rtol=1e-3)
    cosines = (decoded * tokens).sum(axis=1) / length**2
    assert cosines.mean() > 0.96
    assert cosines.min() > 0.75


@pytest.mark.parametrize("codec", RESIDUALS)
def test_a_token_of_zeros_stays_one(codec: Codec) -> None:
    zeros = np.zeros((2, DIM), np.float32)
    assert not decode(codec, encode(codec, zeros, CODEBOOKS[codec]), CODEBOOKS[codec]).any()
    assert encode(codec, zeros[:0], CODEBOOKS[codec]).shape == (0, codec.bytes_per_token(DIM))


@pytest.mark.parametrize("codec", RESIDUALS)
def test_every_dimension_takes_its_nearest_value(codec: Codec) -> None:
    codebook = CODEBOOKS[codec]
    columns = split_rows(codec, torch.from_numpy(encode(codec, UNSEEN, codebook)))
    assert columns.centroid_ids is not None
    centroids = codebook.directions()
    ids = columns.centroid_ids.long()
    assert torch.equal(ids, (torch.from_numpy(UNSEEN) @ centroids.T).argmax(dim=1))
    residuals = torch.from_numpy(UNSEEN) - centroids[ids]
    values = codebook.step * codebook.bucket_weights.float()
    best = (residuals[..., None] - values).abs().amin(dim=-1)
    taken = (residuals - codebook.step * codebook.bucket_weights_of(columns.codes)).abs()
    torch.testing.assert_close(taken, best, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("bits", "bytes_"), [(4, 2), (2, 1)])
def test_byte_i_holds_every_block_of_dimensions_once(bits: int, bytes_: int) -> None:
    bucket_weights = torch.arange(2**bits, dtype=torch.int8)
    codebook = Codebook(torch.ones((1, 16), dtype=torch.int8), bucket_weights, 1.0)
    codes = torch.tensor([[0b11100100, 0b00011011][:bytes_]], dtype=torch.uint8)
    expected = {4: [0b0100, 0b1011, 0b1110, 0b0001], 2: [0, 1, 2, 3]}[bits]
    assert codebook.bucket_weights_of(codes).tolist() == [expected]


def test_a_codebook_has_unit_centroids_and_ascending_bucket_weights_that_use_int8() -> None:
    for codec, codebook in CODEBOOKS.items():
        np.testing.assert_allclose(codebook.directions().norm(dim=1), 1, atol=1e-2)
        bucket_weights = codebook.bucket_weights.tolist()
        assert bucket_weights == sorted(set(bucket_weights))
        assert 125 <= int(codebook.centroids.int().abs().max()) + max(map(abs, bucket_weights)) <= 127
        assert len(bucket_weights) == 2**codec.residual_bits


@pytest.mark.parametrize("codec", RESIDUALS)
def test_a_decoded_token_is_int8_numbers_times_its_scale_and_the_step(codec: Codec) -> None:
    codebook = CODEBOOKS[codec]
    columns = split_rows(codec, torch.from_numpy(encode(codec, UNSEEN, codebook)))
    assert columns.centroid_ids is not None
    numbers = codebook.decode(columns.codes, columns.centroid_ids, torch.float64) / codebook.step
    assert torch.equal(numbers, numbers.round()) and numbers.abs().max() <= 127


@pytest.mark.parametrize("largest", [1.0, 101.5, 1e-30, 1e30])
def test_rounding_leaves_half_a_step_and_sums_that_fit_int8(largest: float) -> None:
    centroids = torch.linspace(-largest, largest, 64).view(4, 16)
    values = 25.5 / 101.5 * largest * torch.tensor([-1.0, -0.1, 0.2, 1.0])
    codebook = Codebook.rounded(centroids, values)
    for numbers, exact in ((codebook.centroids, centroids), (codebook.bucket_weights, values)):
        assert (codebook.step * numbers.double() - exact).abs().max() <= 0.5001 * codebook.step


def test_buckets_hold_equally_many_residuals_of_the_sample() -> None:
    """The bucket weights are the quantiles in the middles of the buckets, within a step."""
    codebook = CODEBOOKS[Codec.RESIDUAL2]
    centroids = codebook.directions().numpy()
    residuals = SAMPLE - centroids[(SAMPLE @ centroids.T).argmax(axis=1)]
    middles = np.quantile(residuals, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(codebook.step * codebook.bucket_weights.numpy(), middles, atol=codebook.step)


def test_a_seed_gives_one_codebook() -> None:
    one, same, other = (train_codebook(SAMPLE, Codec.RESIDUAL2, 20, seed) for seed in (3, 3, 4))
    assert torch.equal(one.centroids, same.centroids)
    assert (one.step, one.bucket_weights.tolist()) == (same.step, same.bucket_weights.tolist())
    assert not torch.equal(one.centroids, other.centroids)


def test_the_lengths_of_a_sample_do_not_matter() -> None:
    longer = SAMPLE * np.random.default_rng(0).choice([0.5, 2], (len(SAMPLE), 1)).astype(np.float32)
    expected = CODEBOOKS[Codec.RESIDUAL4]
    assert torch.equal(train_codebook(longer, Codec.RESIDUAL4, 20).centroids, expected.centroids)


ZERO = np.concatenate([SAMPLE[:40], np.zeros((1, DIM), np.float32)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((SAMPLE, Codec.INT8, 4), "codec is int8; expected residual4 or residual2"),
        ((SAMPLE.astype(np.float64), Codec.RESIDUAL4, 4), "sample has dtype float64 and shape .* expected float32"),
        ((SAMPLE[0], Codec.RESIDUAL4, 4), r"sample has dtype float32 and shape \[32\]; expected float32 \[n, dim\]"),
        ((SAMPLE[:, :24], Codec.RESIDUAL4, 4), "dim is 24; expected a multiple of 16 for residual4"),
        ((SAMPLE, Codec.RESIDUAL4, 0), "centroids is 0; expected 1 to 65536"),
        ((SAMPLE, Codec.RESIDUAL4, 65537), "centroids is 65537; expected 1 to 65536"),
        ((SAMPLE[:9], Codec.RESIDUAL4, 10), "sample has 9 tokens; expected at least 10, the number of centroids"),
        ((ZERO, Codec.RESIDUAL4, 4), "sample has a token that is zero or not finite; expected finite tokens"),
        ((ZERO * np.float32("nan"), Codec.RESIDUAL4, 4), "sample has a token that is zero or not finite"),
    ],
)
def test_bad_training_is_refused(arguments: tuple[np.ndarray, Codec, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_codebook(*arguments)


GOOD = {
    "centroids": torch.full((3, 16), -100, dtype=torch.int8),
    "bucket_weights": torch.arange(4, dtype=torch.int8),
    "step": 0.5,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"centroids": torch.ones((3, 16))}, r"centroids is torch.float32 \[3, 16\]; expected torch.int8 \[1 to"),
        ({"centroids": torch.ones((0, 16), dtype=torch.int8)}, r"centroids is torch.int8 \[0, 16\]; expected"),
        (
            {"bucket_weights": torch.tensor([-28, 0, 1, 2], dtype=torch.int8)},
            "centroids has 100 and bucket_weights 28 as the largest magnitude; expected 127 at most together",
        ),
        (
            {"bucket_weights": torch.arange(5, dtype=torch.int8)},
            r"bucket_weights is torch.int8 \[5\]; expected torch.int8 \[4\] or",
        ),
        (
            {"bucket_weights": torch.empty(4, dtype=torch.int8, device="meta")},
            "bucket_weights is on meta; expected cpu, as centroids",
        ),
        ({"step": 0.0}, "step is 0.0; expected a positive float32"),
        ({"step": 0.1}, "step is 0.1; expected a positive float32"),
        ({"step": float("nan")}, "step is nan; expected a positive float32"),
    ],
)
def test_bad_codebooks_are_refused(change: dict[str, object], message: str) -> None:
    Codebook(**GOOD)
    with pytest.raises(ValueError, match=message):
        Codebook(**GOOD | change)


@pytest.mark.parametrize(
    ("codec", "codebook", "message"),
    [
        (Codec.INT8, CODEBOOKS[Codec.RESIDUAL4], "codebook is given; expected None for int8"),
        (Codec.RESIDUAL2, CODEBOOKS[Codec.RESIDUAL4], "codebook has 16 bucket weights; expected 4 for residual2"),
        (Codec.RESIDUAL2, Codebook(**GOOD), "codebook has dim 16; expected 32"),
    ],
)
def test_another_codecs_codebook_is_refused(codec: Codec, codebook: Codebook, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(codec, UNSEEN, codebook)


@pytest.mark.parametrize("codec", RESIDUALS)
def test_numbers_that_the_residual_codecs_cannot_hold_are_refused(codec: Codec) -> None:
    with pytest.raises(ValueError, match=f"embeddings holds nan; .* that {codec.value} can hold"):
        encode(codec, UNSEEN * np.float32("nan"), CODEBOOKS[codec])
    with pytest.raises(ValueError, match=f"embeddings holds .*; .* that {codec.value} can hold"):
        encode(codec, UNSEEN * np.float32(1e6), CODEBOOKS[codec])
