import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from maxsim_data import codebook

from tridex.kernels import Codec, decode, encode, split_rows
from tridex.kernels.codecs import DESCRIPTIONS, precision_bits

FLOATS = [Codec.FLOAT32, Codec.FLOAT16, Codec.BFLOAT16]
EMBEDDINGS = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=st.floats(-1.75, 1.75, width=32)
)


@given(codec=st.sampled_from(FLOATS), embeddings=EMBEDDINGS)
def test_codes_are_what_torch_rounds_to(codec: Codec, embeddings: np.ndarray) -> None:
    codes = encode(codec, embeddings)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(embeddings), codec.bytes_per_token(embeddings.shape[1]))
    expected = torch.tensor(embeddings).to(DESCRIPTIONS[codec].operand)
    assert codes.tobytes() == bytes(expected.untyped_storage())
    np.testing.assert_array_equal(decode(codec, codes), expected.float().numpy())


@given(embeddings=EMBEDDINGS)
def test_float8_has_3_bits_behind_the_leading_one(embeddings: np.ndarray) -> None:
    """Half a unit of e4m3 is 1/16 of the number, or of its smallest normal number, 2^-6 / 256."""
    decoded = decode(Codec.FLOAT8, encode(Codec.FLOAT8, embeddings))
    assert (np.abs(decoded - embeddings) <= np.maximum(np.abs(embeddings), 2.0**-14) / 16).all()


@given(embeddings=EMBEDDINGS, size=st.sampled_from([1e-7, 1e-3, 1.0, 1e4]))
def test_int8_is_off_by_half_a_step_at_most(embeddings: np.ndarray, size: float) -> None:
    embeddings = embeddings * np.float32(size)
    rows = encode(Codec.INT8, embeddings)
    scales = rows[:, -2:].copy().view(np.float16).astype(np.float32)
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    assert (np.abs(scales - largest / 127) <= largest / 127 * 2.0**-11 + 2.0**-24).all()
    clipped = np.maximum(largest - 127.5 * scales, 0)  # Only where float16 has not the bits for so small a scale.
    assert (clipped <= 127 * 2.0**-25).all()
    assert (np.abs(decode(Codec.INT8, rows) - embeddings) <= scales * 0.5001 + clipped).all()


@pytest.mark.parametrize("codec", [Codec.FLOAT16, Codec.BFLOAT16, Codec.FLOAT8])
def test_every_finite_code_survives_decode_and_encode(codec: Codec) -> None:
    size = DESCRIPTIONS[codec].operand.itemsize
    every = torch.arange(2 ** (8 * size)).to(torch.int16 if size == 2 else torch.uint8)
    finite = torch.isfinite(every.view(DESCRIPTIONS[codec].operand).float())
    codes = every[finite].view(torch.uint8).reshape(-1, size).numpy()
    np.testing.assert_array_equal(encode(codec, decode(codec, codes)), codes)


@given(
    codec=st.sampled_from(Codec),
    embeddings=hnp.arrays(np.float32, (2, 16), elements=st.floats(-1, 1, width=32)),
    exponent=st.integers(-149, 127),
)
def test_what_is_taken_is_finite_and_of_its_magnitude(codec: Codec, embeddings: np.ndarray, exponent: int) -> None:
    """Codes that overflow would be infinities in every score."""
    embeddings = (embeddings * 2.0**exponent).astype(np.float32)
    book = codebook(codec, 16)
    largest = np.abs(embeddings).max()
    try:
        decoded = decode(codec, encode(codec, embeddings, book), book)
    except ValueError as error:
        assert largest > 1.75 and "finite numbers that" in str(error)
    else:
        assert np.isfinite(decoded).all()
        assert np.abs(decoded).max() <= 4 * largest + 2.0**-16


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (Codec.FLOAT32, 512),
        (Codec.FLOAT16, 256),
        (Codec.BFLOAT16, 256),
        (Codec.FLOAT8, 128),
        (Codec.INT8, 130),
        (Codec.RESIDUAL4, 68),
        (Codec.RESIDUAL2, 36),
    ],
)
def test_bytes_per_token(codec: Codec, expected: int) -> None:
    assert codec.bytes_per_token(128) == expected


@pytest.mark.parametrize(
    ("codec", "expected"),
    [
        (Codec.FLOAT32, 24),
        (Codec.FLOAT16, 11),
        (Codec.BFLOAT16, 8),
        (Codec.FLOAT8, 4),
        (Codec.INT8, 7),
        (Codec.RESIDUAL4, 4),
        (Codec.RESIDUAL2, 2),
    ],
)
def test_precision_bits(codec: Codec, expected: int) -> None:
    assert precision_bits(codec) == expected


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_residuals_are_cut_into_whole_bytes_of_blocks(codec: Codec) -> None:
    with pytest.raises(ValueError, match=f"dim is 24; expected a multiple of 16 for {codec.value}"):
        codec.bytes_per_token(24)


def test_rows_are_split_into_columns_and_put_together_again() -> None:
    rows = torch.arange(2 * 36, dtype=torch.uint8).reshape(2, 36)
    codes, scales, ids = columns = split_rows(Codec.RESIDUAL2, rows)
    assert torch.equal(columns.to_rows(), rows)
    assert torch.equal(codes, rows[:, :32])
    assert ids is not None
    assert ids.tolist() == [32 + 256 * 33, 68 + 256 * 69]
    assert scales is not None
    assert scales.view(torch.int16).tolist() == [34 + 256 * 35, 70 + 256 * 71]
    assert all(column.is_contiguous() for column in (codes, scales, ids))
    codes, scales, ids = split_rows(Codec.INT8, rows)
    assert (codes.shape, ids) == ((2, 34), None)
    assert scales is not None
    assert scales.view(torch.int16).tolist() == [34 + 256 * 35, 70 + 256 * 71]
    assert split_rows(Codec.FLOAT16, rows)[0] is rows


@settings(deadline=None)
@given(
    queries=hnp.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=st.floats(-100, 100, width=32)
    )
)
def test_queries_are_rounded_to_half_a_step(queries: np.ndarray) -> None:
    queries[np.abs(queries).max(axis=1) < 2.0**-100] = 0  # They come scaled to about unit length.
    numbers, scales = DESCRIPTIONS[Codec.INT8].round_queries(torch.from_numpy(queries))
    assert scales is not None
    assert (numbers.dtype, scales.dtype) == (torch.int8, torch.float32)
    assert (scales > 0).all()
    assert numbers.int().abs().max() <= 127
    off = (numbers * scales[:, None] - torch.from_numpy(queries)).abs()
    assert (off <= scales[:, None] * 0.5001).all()


def test_float8_queries_keep_3_bits_behind_the_leading_one() -> None:
    """The longest number of a scaled token, 2 ** 0.5, is within the 1.75 that float8 holds."""
    numbers, scales = DESCRIPTIONS[Codec.FLOAT8].round_queries(torch.tensor([[2.0**0.5, -1.0, 1.0625, 0.5, 2.0**-17]]))
    assert scales is None
    assert numbers.float().tolist() == [[352, -256, 256, 128, 2.0**-9]]


@pytest.mark.parametrize(
    ("codec", "embeddings", "message"),
    [
        (
            Codec.FLOAT16,
            np.ones(4, np.float32),
            r"embeddings has dtype float32 and shape \[4\]; expected float32 \[tok",
        ),
        (Codec.FLOAT16, np.ones((4, 0), np.float32), r"shape \[4, 0\]; expected float32 \[tokens, dim\]"),
        (Codec.FLOAT16, np.ones((4, 2)), "embeddings has dtype float64"),
        *((codec, np.array([[1, np.nan]], np.float32), "embeddings holds nan; expected finite") for codec in FLOATS),
        (Codec.FLOAT8, np.array([[1, np.nan]], np.float32), "embeddings holds nan; expected finite numbers"),
        (Codec.INT8, np.array([[1, 2], [1, np.nan]], np.float32), "embeddings holds nan; expected finite numbers"),
        (Codec.BFLOAT16, np.array([[-np.inf, 0]], np.float32), "embeddings holds -inf; expected finite numbers"),
        (
            Codec.FLOAT16,
            np.array([[0, 7e4]], np.float32),
            "embeddings holds 70000.0; expected .* that float16 can hold",
        ),
        (Codec.FLOAT8, np.array([[0, -2]], np.float32), "embeddings holds -2.0; .* that float8_e4m3 can hold"),
        (Codec.INT8, np.array([[1e7, 0]], np.float32), "embeddings holds 10000000.0; .* that int8 can hold"),
        (Codec.BFLOAT16, np.array([[3.4e38, 0]], np.float32), r"embeddings holds 3.*e\+38; .* that bfloat16 can hold"),
        (Codec.RESIDUAL4, np.ones((1, 16), np.float32), "codebook is None; expected the codebook of residual4"),
    ],
)
def test_bad_embeddings_are_refused(codec: Codec, embeddings: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(codec, embeddings)
