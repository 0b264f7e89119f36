import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tridex.kernels import Codebook, Codec, Segment, encode, pack, pack_bitmap, train_codebook, unpack_bitmap
from tridex.kernels.reference import is_live

DOCUMENTS = [np.full((tokens, 4), tokens, np.float32) for tokens in (2, 0, 3)]


@given(st.lists(st.booleans(), max_size=100))
def test_bitmap_has_the_bit_of_every_live_document(live: list[bool]) -> None:
    bitmap = pack_bitmap(np.array(live, np.bool_))
    assert bitmap.dtype == torch.int32
    assert len(bitmap) == -(-len(live) // 32)
    number = int.from_bytes(bitmap.numpy().tobytes(), "little")
    assert number == sum(1 << row for row, alive in enumerate(live) if alive)
    assert unpack_bitmap(bitmap, len(live)).tolist() == live


def test_pack_lays_documents_one_after_the_other() -> None:
    segment = pack(DOCUMENTS, Codec.FLOAT16)
    assert (segment.documents, segment.tokens, segment.dim) == (3, 5, 4)
    assert segment.offsets.tolist() == [0, 2, 2, 5]
    assert segment.codes.view(torch.float16)[:, 0].tolist() == [2, 2, 3, 3, 3]
    assert [is_live(segment, row) for row in range(3)] == [True] * 3


def codebook(codec: Codec, dim: int = 16) -> Codebook:
    sample = np.random.default_rng(0).standard_normal((50, dim), np.float32)
    return train_codebook(sample, codec, centroids=3)


@pytest.mark.parametrize("codec", Codec)
def test_columns_put_together_are_the_rows_of_the_store(codec: Codec) -> None:
    embeddings = np.random.default_rng(1).uniform(-1, 1, (5, 16)).astype(np.float32)
    book = codebook(codec) if codec.residual_bits else None
    rows = encode(codec, embeddings, book)
    segment = Segment.from_numpy(codec, 16, rows, np.array([0, 2, 5]), codebook=book)
    columns = [segment.codes, segment.centroid_ids, segment.scales]
    parts = [column.view(torch.uint8).reshape(5, -1) for column in columns if column is not None]
    assert torch.equal(torch.cat(parts, dim=1), torch.from_numpy(rows))
    assert segment.codes.shape == (5, codec.code_bytes(16))


def test_read_only_arrays_are_taken_without_copy_or_warning() -> None:
    codes = np.frombuffer(bytes(range(32)), np.uint8).reshape(4, 8)
    offsets = np.array([0, 1, 4])
    offsets.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segment = Segment.from_numpy(Codec.FLOAT16, 4, codes, offsets)
    assert segment.codes.data_ptr() == codes.ctypes.data
    assert segment.offsets.data_ptr() == offsets.ctypes.data
    del codes
    assert segment.codes.flatten().tolist() == list(range(32))


def test_with_live_shares_the_documents() -> None:
    segment = pack(DOCUMENTS, Codec.FLOAT32)
    changed = segment.with_live(pack_bitmap(np.array([False, True, True])))
    assert [is_live(changed, row) for row in range(3)] == [False, True, True]
    assert [is_live(segment, row) for row in range(3)] == [True] * 3
    assert changed.codes is segment.codes
    changed = pack(DOCUMENTS, Codec.INT8).with_live(pack_bitmap(np.array([False, True, True])))
    assert changed.scales is not None
    with pytest.raises(ValueError, match=r"live is torch.int32 \[2\] on cpu; expected contiguous torch.int32 \[1\]"):
        segment.with_live(torch.zeros(2, dtype=torch.int32))


GOOD = {
    "codec": Codec.FLOAT16,
    "dim": 4,
    "codes": torch.zeros((5, 8), dtype=torch.uint8),
    "offsets": torch.tensor([0, 2, 2, 5]),
    "live": torch.tensor([7], dtype=torch.int32),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim is 0; expected at least 1"),
        ({"dim": 3}, r"codes is torch.uint8 \[5, 8\] on cpu; expected contiguous torch.uint8 \[tokens, 6\] on cpu"),
        ({"codes": torch.zeros((5, 4), dtype=torch.float16)}, r"codes is torch.float16 \[5, 4\] on cpu; expected"),
        (
            {"codes": torch.zeros((5, 16), dtype=torch.uint8)[:, ::2]},
            "codes is .*, not contiguous; expected contiguous",
        ),
        (
            {"offsets": torch.tensor([0, 2, 2, 5], dtype=torch.int32)},
            r"offsets is torch.int32 \[4\] .* torch.int64 \[doc",
        ),
        ({"offsets": torch.tensor([0, 2, 2, 5], device="meta")}, r"offsets is .* on meta; expected .* on cpu"),
        ({"offsets": torch.tensor([[0, 5]])}, r"offsets is torch.int64 \[1, 2\]"),
        ({"offsets": torch.empty(0, dtype=torch.int64)}, "offsets has length 0; expected 1 to"),
        (
            {"offsets": torch.tensor([1, 2, 2, 5])},
            "offsets goes from 1 to 5; expected from 0 to 5, the number of tokens",
        ),
        ({"offsets": torch.tensor([0, 2, 2, 6])}, "offsets goes from 0 to 6; expected from 0 to 5"),
        ({"offsets": torch.tensor([0, 3, 2, 5])}, "offsets falls from 3 to 2 after document 1; expected ascending"),
        ({"offsets": torch.tensor([0, 2**40, 2, 5])}, "offsets falls from 1099511627776 to 2 after document 1"),
        (
            {"live": torch.zeros(2, dtype=torch.int32)},
            r"live is torch.int32 \[2\] on cpu; expected .* torch.int32 \[1\]",
        ),
        ({"live": torch.ones(3, dtype=torch.bool)}, r"live is torch.bool \[3\] on cpu; expected .* torch.int32 \[1\]"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(change: dict[str, object], message: str) -> None:
    Segment(**GOOD)
    with pytest.raises(ValueError, match=message):
        Segment(**GOOD | change)


GOOD_RESIDUALS = {
    "codec": Codec.RESIDUAL4,
    "dim": 16,
    "codes": torch.zeros((5, 8), dtype=torch.uint8),
    "offsets": torch.tensor([0, 2, 2, 5]),
    "live": torch.tensor([7], dtype=torch.int32),
    "scales": torch.ones(5, dtype=torch.float16),
    "centroid_ids": torch.tensor([0, 1, 2, 0, 1], dtype=torch.int16),
    "codebook": codebook(Codec.RESIDUAL4),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": None}, r"scales is None; expected torch.float16 \[tokens\] for residual4"),
        (
            {"scales": torch.ones(4, dtype=torch.float16)},
            r"scales is torch.float16 \[4\] on cpu; .* torch.float16 \[5\]",
        ),
        ({"scales": torch.ones(5)}, r"scales is torch.float32 \[5\] on cpu; expected contiguous torch.float16 \[5\]"),
        ({"centroid_ids": None}, r"centroid_ids is None; expected torch.int16 \[tokens\] for residual4"),
        (
            {"centroid_ids": torch.tensor([0, 1, 3, 0, 1], dtype=torch.int16)},
            "centroid_ids holds 3; expected ids below 3, the number of centroids",
        ),
        (
            {"centroid_ids": torch.tensor([0, -1, 2, 0, 1], dtype=torch.int16)},
            "centroid_ids holds 65535; expected ids below 3",
        ),
        ({"codebook": None}, r"codebook is None; expected the codebook of residual4 \(train_codebook\)"),
        ({"codebook": codebook(Codec.RESIDUAL2)}, "codebook has 4 bucket weights; expected 16 for residual4"),
        ({"codebook": codebook(Codec.RESIDUAL4, 32)}, "codebook has dim 32; expected 16"),
        ({"codec": Codec.INT8, "dim": 8}, "centroid_ids is given; expected None for int8"),
        ({"codec": Codec.FLOAT8, "dim": 8}, "scales is given; expected None for float8_e4m3"),
        ({"dim": 24}, "dim is 24; expected a multiple of 16 for residual4"),
    ],
)
def test_columns_that_are_not_the_codecs_are_refused(change: dict[str, object], message: str) -> None:
    Segment(**GOOD_RESIDUALS)
    with pytest.raises(ValueError, match=message):
        Segment(**GOOD_RESIDUALS | change)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"codes is torch.uint8 \[2, 16\] on cpu; expected .* \[tokens, 18\] on cpu"):
        Segment.from_numpy(Codec.INT8, 16, np.zeros((2, 16), np.uint8), np.array([0, 2]))


def test_bad_documents_and_bitmaps_are_refused() -> None:
    with pytest.raises(ValueError, match="documents is empty; expected at least one"):
        pack([], Codec.FLOAT16)
    with pytest.raises(ValueError, match=r"documents have the dims \[\(4,\), \(5,\)\]; expected one"):
        pack([np.ones((1, 4), np.float32), np.ones((1, 5), np.float32)], Codec.FLOAT16)
    with pytest.raises(ValueError, match=r"live has dtype int64 and shape \[2\]; expected bool \[documents\]"):
        pack_bitmap(np.array([1, 0]))


def test_a_document_of_more_tokens_than_kernels_count_is_refused() -> None:
    tokens = 2**30 + 1
    codes = torch.zeros((tokens, 1), dtype=torch.uint8)  # Never touched, so it takes no memory.
    with pytest.raises(ValueError, match=f"offsets gives document 0 {tokens} tokens; expected at most {2**30}"):
        Segment(Codec.FLOAT8, 1, codes, torch.tensor([0, tokens]), pack_bitmap(np.array([True])))
