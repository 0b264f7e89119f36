"""What the operators add to the backends: filters, working memory, warm-up."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from maxsim_data import documents, masks, packed, queries

from tridex.kernels import Codec, Operator, pack, pack_bitmap, search, search_workspace_bytes, supported_codecs, warm_up
from tridex.kernels.cpu import backend


@settings(deadline=None, max_examples=20)
@given(codec=st.sampled_from(Codec), live=st.lists(st.booleans(), min_size=1, max_size=70), data=st.data())
def test_a_filter_leaves_what_is_live_and_wanted(codec: Codec, live: list[bool], data: st.DataObject) -> None:
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(live), max_size=len(live))))
    every = documents([3] * len(live), 16)
    segment = packed(every, codec).with_live(pack_bitmap(np.array(live)))
    query, mask = queries(2, 5, 16), masks(2, 5)
    kept = np.flatnonzero(np.array(live) & wanted)
    scores, rows = search(query, segment.with_live(segment.live & pack_bitmap(wanted)), 5, mask)
    assert set(rows[rows >= 0].tolist()) <= set(kept.tolist())
    if len(kept):
        alone = search(query, packed([every[row] for row in kept], codec), 5, mask)
        assert torch.equal(scores, alone[0])
        assert torch.equal(rows, torch.from_numpy(np.append(kept, -1))[alone[1]])
    else:
        assert (rows == -1).all()


def test_a_cpu_needs_no_workspace_and_takes_any() -> None:
    segment, query = pack(documents([3, 4], 16), Codec.INT8), queries(1, 5, 16)
    assert search_workspace_bytes(segment, 1, 5, 2) == 0
    found = search(query, segment, 2, workspace=torch.full((16,), 0xFF, dtype=torch.uint8))
    assert torch.equal(found[0], search(query, segment, 2)[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 2), "batch is 0; expected at least 1"),
        ((1, 0, 2), "query_tokens is 0; expected at least 1"),
        ((1, 5, 0), "top_k is 0; expected at least 1"),
    ],
)
def test_a_workspace_of_nothing_is_refused(arguments: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search_workspace_bytes(pack(documents([3], 16), Codec.FLOAT16), *arguments)


def test_every_codec_is_read_on_a_cpu_and_on_a_gpu() -> None:
    assert supported_codecs(torch.device("cpu")) == supported_codecs(torch.device("cuda", 0)) == tuple(Codec)
    assert supported_codecs(torch.device("meta")) == ()


def test_warm_up_takes_every_codec() -> None:
    warm_up("cpu", 32, Codec)


@pytest.mark.parametrize("operators", [("rescore",), ("search", "rescore"), ("explain",)])
def test_warm_up_calls_the_operators_that_are_named(
    operators: tuple[Operator, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()
    for name in ("search", "rescore", "explain"):
        monkeypatch.setattr(backend, name, lambda *_, name=name: called.add(name))
    warm_up("cpu", 16, [Codec.FLOAT16], operators)
    assert called == {*operators}
