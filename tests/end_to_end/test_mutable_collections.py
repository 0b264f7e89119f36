"""Collections that live: declared fields, filters, aliases that flip, on the real server."""

from __future__ import annotations

import threading
from datetime import datetime, timezone

import pytest
from filter_model import matches
from filter_strategies import FIELDS, VALUES, filters
from hypothesis import HealthCheck, given, settings

from tridex.client import (
    AlreadyExists,
    AsyncClient,
    Client,
    Document,
    InvalidArgument,
    NotFound,
    TridexError,
    UpsertResult,
)
from tridex.serving.server import TritonServer

YEARS = {"field": "year", "operator": ">=", "value": 2020}


@pytest.fixture(scope="module")
def every(server: TritonServer) -> dict[str, dict[str, object]]:
    """Collection "every" holds a document for every value of every field, and one without any."""
    rows: dict[str, dict[str, object]] = {"none": {"undeclared": 7}}
    for name, values in VALUES.items():
        rows |= {f"{name}-{i}": {name: value} for i, value in enumerate(values)}
    with Client(server.address, timeout_s=60) as client:
        info = client.create_collection("every", codec="float32", fields=FIELDS)
        assert (info.fields, info.count, info.codec) == (FIELDS, 0, "float32")
        client.upsert("every", [Document(key, f"document {key}", row) for key, row in rows.items()])
        # Others may see the last version for a moment, until somebody has asked for this one.
        assert len(client.search("every", "document", top_k=200)) == len(rows)
    return rows


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=filters())
def test_a_filter_selects_what_the_dictionary_says(client: Client, every, wanted) -> None:
    expected = {key for key, row in every.items() if matches(wanted, row)}
    by_text = client.search("every", "document", top_k=200, filters=wanted)
    assert {hit.id for hit in by_text} == expected and len(by_text) == len(expected)
    assert client.count("every", filters=wanted) == len(expected)
    reranked = client.rerank("document", collection="every", ids=list(every), filters=wanted)
    assert {result.id for result in reranked} == expected
    assert [d.id for d in client.scroll("every", limit=5, filters=wanted)] == sorted(expected)[:5]


@pytest.mark.usefixtures("every")
def test_filtered_and_unfiltered_searches_share_batches(client: Client) -> None:
    unfiltered = client.search("every", "document year", top_k=200)
    by_id = {hit.id: hit.score for hit in unfiltered}
    failures: list[object] = []

    def ask(year: int) -> None:
        wanted = {"field": "year", "operator": "in", "value": [year]}
        result = client.search("every", "document year", top_k=200, filters=wanted if year else None)
        expected = [hit for hit in unfiltered if not year or matches(wanted, hit.metadata or {})]
        same = [hit.id for hit in result] == [hit.id for hit in expected]
        if not same or any(abs(by_id[hit.id] - hit.score) > 1e-4 for hit in result):
            failures.append((year, result))

    threads = [threading.Thread(target=ask, args=(year,)) for year in (0, 1, 2020, 7) * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_writes_by_filter_are_seen_at_once(client: Client) -> None:
    client.create_collection("notes", fields={"year": "int", "seen": "datetime"})
    notes = [Document(f"n{i:02}", f"note {i}", {"year": 2000 + i, "seen": f"2024-05-{i + 1:02}"}) for i in range(30)]
    client.upsert("notes", notes)
    may = {"field": "seen", "operator": "<", "value": datetime(2024, 5, 4, tzinfo=timezone.utc)}
    assert {hit.id for hit in client.search("notes", "note", filters=may)} == {"n00", "n01", "n02"}
    before = client.describe_collection("notes").version
    deleted = client.delete("notes", filters=YEARS)
    assert deleted.deleted == 10 and deleted.version > before
    assert client.count("notes") == 20 and len(client.search("notes", "note", filters=YEARS)) == 0
    pages, after = [], None
    while page := client.scroll("notes", limit=8, after=after):
        pages.append(page)
        after = page[-1].id
    assert [len(page) for page in pages] == [8, 8, 4] and [d for page in pages for d in page] == notes[:20]


def test_mistyped_metadata_fails_its_own_request_alone(client: Client) -> None:
    client.create_collection("typed", fields={"year": "int"})
    outcomes: dict[int, object] = {}

    def write(i: int) -> None:
        try:
            outcomes[i] = client.upsert(
                "typed", [Document(str(i), "text", {"year": i if i % 2 else str(i), "any": []})]
            )
        except TridexError as error:
            outcomes[i] = error

    threads = [threading.Thread(target=write, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, outcome in outcomes.items():
        assert isinstance(outcome, UpsertResult) if i % 2 else isinstance(outcome, InvalidArgument)
    assert "metadata field 'year' of document '4' is '4'; expected an integer" in str(outcomes[4])
    assert client.count("typed") == 6


def test_metadata_and_counts_over_the_wire(client: Client, server: TritonServer) -> None:
    rows = [Document(str(y), f"text of {y}", {"year": y, "tags": ["even" if y % 2 == 0 else "odd"]}) for y in range(9)]
    written = client.upsert("counted", rows, batch_size=4)
    assert (written.added, written.replaced, written.skipped) == (9, 0, 0)
    # Another client sees it by the version that the write returned.
    with Client(server.address, timeout_s=60) as other:
        even = {"field": "tags", "operator": "contains_any", "value": ["even", "none"]}
        assert len(other.search("counted", "text", filters=even, min_version=written.version)) == 5
    assert client.upsert("counted", [*rows[:2], Document("new", "text")], if_exists="skip").skipped == 2
    with pytest.raises(AlreadyExists, match="document '1' is in collection 'counted' already"):
        client.upsert("counted", [Document("newer", "text"), rows[1]], if_exists="fail")
    assert client.count("counted") == 10
    assert client.update_metadata("counted", filters=even, metadata={"year": None, "seen": "2024-05-01"}).updated == 5
    assert client.add_fields("counted", {"seen": "datetime"}).fields["seen"] == "datetime"
    assert [(found.value, found.count) for found in client.facet("counted", "tags")] == [("even", 5), ("odd", 4)]
    assert client.min_max("counted", "year") == (1, 7)
    first, gone = client.get("counted", ["0", "gone"], with_embeddings=True)
    assert gone is None and first is not None and first.embeddings is not None and first.embeddings.shape[1] == 128
    hits = client.search("counted", "text of 3", normalize=True)
    page = client.search("counted", "text of 3", normalize=True, offset=2, top_k=3, min_score=hits[2].score - 1e-4)
    assert page[0].id == hits[2].id and {hit.id for hit in page} <= {hit.id for hit in hits[2:5]}
    assert all(0 < hit.score <= 1 for hit in hits)
    with pytest.raises(InvalidArgument, match=r"'month'; expected a field of .*: year, tags, seen\. .*add_fields"):
        client.search("counted", "text", filters={"field": "month", "operator": "==", "value": 1})
    assert client.clear("counted").deleted == 10 and client.count("counted") == 0


def test_the_life_of_a_collection(client: Client) -> None:
    client.create_collection("short", fields={"year": "int"})
    with pytest.raises(AlreadyExists, match="'short' exists already"):
        client.create_collection("short")
    for revision in ("first", "second"):
        client.upsert("short", [Document(f"{revision}-{i}", revision) for i in range(3)], batch_size=1)
        assert {hit.text for hit in client.search("short", "first second")} == {revision}
        client.drop_collection("short")
        with pytest.raises(NotFound, match="'short' does not exist"):
            client.search("short", "first second")
        with pytest.raises(NotFound):
            client.drop_collection("short")
        # Made again by the first upsert, without fields.
    client.upsert("short", [Document("x", "third")])
    assert client.describe_collection("short").fields == {}
    assert [hit.text for hit in client.search("short", "first second")] == ["third"]


def test_an_alias_flips_under_load_and_rolls_back(client: Client, server: TritonServer) -> None:
    for colour in ("blue", "green"):
        client.upsert(colour, [Document(f"{colour}-{i}", f"{colour} text {i}") for i in range(20)])
    client.set_alias("live", "blue")
    assert client.aliases()["live"] == "blue"
    stop = threading.Event()
    failures: list[object] = []

    def ask() -> None:
        with Client(server.address, timeout_s=60) as other:
            while not stop.is_set():
                try:
                    ids = [hit.id for hit in other.search("live", "text", top_k=50)]
                except TridexError as error:
                    failures.append(error)
                    return
                if len(ids) != 20 or len({key.partition("-")[0] for key in ids}) != 1:
                    failures.append(ids)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20):
        target = ("green", "blue")[i % 2]
        client.set_alias("live", target)
        # What was acknowledged is seen by the very next search.
        assert client.search("live", "text")[0].id.startswith(target)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    # Writes through an alias reach its collection, and do not bind later searches to that collection's versions.
    for i in range(3):
        client.upsert("live", [Document("new", f"new text {i}")])
    assert client.get("blue", ["new"])[0] is not None
    client.set_alias("live", "green")
    assert "new" not in {hit.id for hit in client.search("live", "new text", top_k=50)}
    with pytest.raises(InvalidArgument, match="alias 'live' leads to it"):
        client.drop_collection("green")
    with pytest.raises(AlreadyExists, match="'live' is an alias of collection 'green'"):
        client.create_collection("live")
    with pytest.raises(AlreadyExists, match="'blue' exists already"):
        client.set_alias("blue", "green")
    client.drop_alias("live")
    with pytest.raises(NotFound):
        client.search("live", "text")
    with pytest.raises(NotFound, match="alias 'live' does not exist"):
        client.drop_alias("live")


async def test_the_async_client_does_the_same(server: TritonServer) -> None:
    async with AsyncClient(server.address, timeout_s=60) as client:
        await client.create_collection("async-mutable", fields={"year": "int"})
        await client.upsert("async-mutable", [Document(str(y), "text", {"year": y}) for y in (2019, 2020, 2021)])
        await client.set_alias("async-alias", "async-mutable")
        assert {hit.id for hit in await client.search("async-alias", "text", filters=YEARS)} == {"2020", "2021"}
        assert [d.id for d in await client.scroll("async-alias", filters=YEARS, after="2020")] == ["2021"]
        await client.delete("async-alias", filters=YEARS)
        assert await client.count("async-mutable") == 1
        assert (await client.aliases())["async-alias"] == "async-mutable"
        await client.drop_alias("async-alias")
        await client.drop_collection("async-mutable")
