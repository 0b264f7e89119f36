"""Upserts of streams: batches, laziness, progress."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from tridex.client import Document, InvalidArgument, NotFound, TridexError
from tridex.common.terminal.progress import Counted


@pytest.fixture
def sizes(triton):
    """The batch sizes that arrived at the server."""
    seen: list[int] = []

    def answer(request):
        seen.append(len(request.inputs["ID"]))
        return {"VERSION": np.full((seen[-1], 1), len(seen))}

    triton.answer = answer
    return seen


def document(i):
    return {"id": str(i), "text": f"text {i}"}


async def test_batches(client, sizes):
    assert (await client.upsert("docs", (document(i) for i in range(37)))).version == 3
    assert sizes == [16, 16, 5]
    assert (await client.upsert("docs", map(document, range(130)), batch_size=64)).version == 6
    assert sizes[3:] == [64, 64, 2]


async def test_a_stream_is_read_one_batch_at_a_time(client, sizes):
    taken_at_answer = []

    def stream():
        for i in range(10**9):
            if i % 4 == 0:
                taken_at_answer.append((i, len(sizes)))
            if i == 40:
                raise KeyboardInterrupt
            yield document(i)

    with pytest.raises(KeyboardInterrupt):
        await client.upsert("docs", stream(), batch_size=4)
    assert taken_at_answer == [(4 * n, n) for n in range(11)]


async def test_an_id_twice_in_a_batch(client, sizes):
    with pytest.raises(
        InvalidArgument,
        match=r"documents\[2\].id: expected every id once in a batch \(documents\[0\] has it\), got .a.",
    ):
        await client.upsert("docs", [document("a"), document("b"), document("a")])
    assert sizes == []
    assert (await client.upsert("docs", [document("a"), document("a")], batch_size=1)).version == 2


async def test_a_bad_document_names_its_place_in_the_stream(client, sizes):
    with pytest.raises(InvalidArgument, match=r"documents\[5\]\.text: expected text that is not empty, got ''"):
        await client.upsert("docs", [*map(document, range(5)), {"id": "5", "text": ""}], batch_size=4)
    assert sizes == [4]


@pytest.mark.parametrize("status", [grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT])
async def test_an_upsert_that_fails_midway_says_what_is_written(client, triton, sizes, status):
    def documents():
        for i in range(10**9):
            if i == 5000:
                triton.failures = [(status, "the disk is full")]
            yield document(i)

    with pytest.raises(TridexError, match=r"^the disk is full \(the first 4,992 documents are written\)$") as caught:
        await client.upsert("docs", documents(), batch_size=64)
    assert caught.value.written == sum(sizes) == 4992


async def test_what_is_wrong_with_the_first_batch_leaves_nothing_written(client, triton):
    triton.failures = [(grpc.StatusCode.NOT_FOUND, "no such thing")]
    with pytest.raises(NotFound, match=r"^no such thing$") as caught:
        await client.upsert("docs", [document(1)])
    assert caught.value.written == 0


async def test_a_bad_document_behind_good_ones_leaves_those_written(client, sizes):
    with pytest.raises(
        InvalidArgument, match=r"documents\[9\]\.text: .*\(the first 8 documents are written\)"
    ) as caught:
        await client.upsert("docs", [*map(document, range(9)), {"id": "9", "text": ""}], batch_size=4)
    assert caught.value.written == sum(sizes) == 8


async def test_what_the_users_own_iterator_raises_is_left_alone(client, sizes):
    def documents():
        yield from map(document, range(4))
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError, match=r"^of the user$"):
        await client.upsert("docs", documents(), batch_size=4)
    assert sizes == [4]


@pytest.mark.parametrize(
    "documents", [{"id": "a", "text": "t"}, Document("a", "t"), "text", b"text"], ids=lambda d: type(d).__name__
)
async def test_one_document_is_no_list(client, sizes, documents):
    with pytest.raises(InvalidArgument, match=r"documents: expected a sequence of them, \[document\] for one, got "):
        await client.upsert("docs", documents)
    assert sizes == []


@pytest.mark.usefixtures("sizes")
async def test_progress_goes_to_stderr_with_a_rate(client, capsys):
    await client.upsert("docs", [document(i) for i in range(40)], show_progress_bar=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "40/40" in captured.err and "/s" in captured.err


@pytest.mark.usefixtures("sizes")
async def test_the_total_is_a_hint(client, capsys):
    await client.upsert("docs", Counted(map(document, range(20)), 30), show_progress_bar=True)
    assert "20/20" in capsys.readouterr().err


@pytest.mark.usefixtures("sizes")
async def test_no_progress_unless_asked(client, capsys):
    await client.upsert("docs", [document(i) for i in range(40)])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
