"""What is copied together comes apart as it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tridex.index.resident.host_copy import host_buffer, joined, tensors_in

DTYPES = [torch.float32, torch.int64, torch.bool, torch.float16]

shapes = st.lists(st.integers(0, 5), min_size=1, max_size=3)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape, dtype = draw(shapes), draw(st.sampled_from(DTYPES))
    tensor = torch.randint(0, 100, shape).to(dtype)
    return tensor.transpose(0, -1) if draw(st.booleans()) else tensor


@given(st.lists(tensors(), min_size=1, max_size=5))
def test_tensors_in_one_buffer(given: list[torch.Tensor]) -> None:
    buffer, split = joined(given)
    assert buffer.dtype == torch.uint8 and len(buffer) == sum(tensor.nbytes for tensor in given)
    found = split(buffer.clone())
    assert [(tensor.dtype, tensor.shape) for tensor in found] == [(tensor.dtype, tensor.shape) for tensor in given]
    assert all(torch.equal(one, other) for one, other in zip(found, given, strict=True))


def test_a_layout_whose_tensors_would_not_be_aligned_is_refused() -> None:
    with pytest.raises(ValueError, match=r"elements of \[8, 1, 4\] bytes; expected the larger ones first"):
        host_buffer([((2,), torch.int64), ((3,), torch.bool), ((1,), torch.float32)], torch.device("cpu"))


def test_a_buffer_is_zeros_and_written_through_its_tensors() -> None:
    layout = [((2, 3), torch.float32), ((5,), torch.bool)]
    buffer = host_buffer(layout, torch.device("cpu"))
    assert len(buffer) == 29 and not buffer.any()
    numbers, flags = tensors_in(buffer, layout)
    numbers[1, 2], flags[4] = 7.0, True
    again = tensors_in(buffer, layout)
    assert again[0].tolist() == [[0, 0, 0], [0, 0, 7]] and again[1].tolist() == [False] * 4 + [True]
