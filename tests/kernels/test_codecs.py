import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tridex.kernels import Codec

HALF_TYPES = [Codec.FLOAT16, Codec.BFLOAT16]


@given(
    codec=st.sampled_from(Codec),
    embeddings=hnp.arrays(
        np.float32, st.tuples(st.integers(0, 5), st.integers(1, 9)), elements=st.floats(-4, 4, width=32)
    ),
)
def test_codes_are_what_torch_rounds_to(codec: Codec, embeddings: np.ndarray) -> None:
    codes = codec.encode(embeddings)
    assert codes.dtype == np.uint8
    assert codes.shape == (len(embeddings), codec.bytes_per_token(embeddings.shape[1]))
    expected = torch.tensor(embeddings).to(codec.dtype)
    assert codes.tobytes() == bytes(expected.untyped_storage())
    np.testing.assert_array_equal(codec.decode(codes), expected.float().numpy())


@pytest.mark.parametrize("codec", HALF_TYPES)
def test_every_code_of_16_bits_survives_decode_and_encode(codec: Codec) -> None:
    every = torch.arange(-(2**15), 2**15).to(torch.int16)
    codes = every[torch.isfinite(every.view(codec.dtype))].view(torch.uint8).reshape(-1, 2).numpy()
    np.testing.assert_array_equal(codec.encode(codec.decode(codes)), codes)


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
        (Codec.FLOAT32, np.array([[1, np.nan]], np.float32), "embeddings holds nan; expected finite numbers"),
        (Codec.BFLOAT16, np.array([[-np.inf, 0]], np.float32), "embeddings holds -inf; expected finite numbers"),
        (
            Codec.FLOAT16,
            np.array([[0, 7e4]], np.float32),
            "embeddings holds 70000.0; expected .* that float16 can hold",
        ),
    ],
)
def test_bad_embeddings_are_refused(codec: Codec, embeddings: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode(embeddings)
