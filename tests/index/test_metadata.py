"""Metadata comes back as it went in, or does not go in; what earlier versions stored comes back, or says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tridex.index import Collection, CollectionSpec, Document, Follower, InvalidDocumentError, Store
from tridex.index.storage.metadata import MAX_DEPTH, decoded, encoded, sendable
from tridex.kernels import Codec

ONE = np.ones((1, 4), np.float32)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), JSON))
def test_what_goes_in_comes_back(metadata: dict[str, Any]) -> None:
    try:
        text = encoded("x", metadata)
    except InvalidDocumentError as error:
        assert "surrogates not allowed" in str(error)
        return
    assert decoded(text) == metadata and sendable(text) == text


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"n": float("inf")}, "Out of range float"),
        ({"n": [float("nan")]}, "Out of range float"),
        ({"n": 10**5000}, "4300"),
        (json.loads(nested(MAX_DEPTH + 1)), f"deeper than {MAX_DEPTH} levels"),
        (json.loads(nested(900)), "nested deeper"),
        ({"n": "\ud800"}, "surrogates not allowed"),
        ({"n": {1, 2}}, "not JSON serializable"),
    ],
)
def test_what_cannot_be_given_back_is_refused(tmp_path: Path, metadata: dict[str, Any], why: str) -> None:
    collection = Store(tmp_path).create("c", CollectionSpec(4, Codec.FLOAT32, "f" * 64))
    version = collection.version
    documents = [Document("good", "", {}), Document("x", "", metadata)]
    for write in (lambda: collection.check_metadata(documents), lambda: collection.upsert(documents, [ONE, ONE])):
        with pytest.raises(InvalidDocumentError, match=rf"document 'x'.*{why}") as refused:
            write()
        assert len(str(refused.value)) < 500
    assert collection.latest().version == version
    collection.upsert([Document("deep", "", json.loads(nested(MAX_DEPTH)))], [ONE])
    assert collection.get(["deep"]) == [Document("deep", "", json.loads(nested(MAX_DEPTH)))]


@pytest.fixture
def poisoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collection:
    """A collection in which an earlier version stored what it should not have."""
    collection = Store(tmp_path).create("c", CollectionSpec(4, Codec.FLOAT32, "f" * 64))
    stored = {
        "deep": nested(500),
        "deepest": nested(30_000),
        "good": '{"n": 1}',
        "inf": '{"n": Infinity}',
        "huge": '{"n": 1e999}',
        "digits": f'{{"n": {"9" * 5000}}}',
    }
    monkeypatch.setattr("tridex.index.storage.document_rows.encoded", lambda key, _: stored[key])
    collection.upsert([Document(key, key, {}) for key in stored], [ONE] * len(stored))
    return collection


def test_what_earlier_versions_stored_comes_back_or_says_why_not(tmp_path: Path, poisoned: Collection) -> None:
    for documents in (poisoned.scroll(10), poisoned.get(["deep", "deepest", "digits", "good", "huge", "inf"])):
        metadata = {d.id: d.metadata for d in documents if d}
        assert metadata.pop("good") == {"n": 1} and len(metadata) == 5
        assert all(list(value) == ["_unreadable"] for value in metadata.values())
        assert metadata["inf"]["_unreadable"].endswith("Infinity is no finite number")
    snapshot = Follower(Store(tmp_path), "c", torch.device("cpu")).snapshot
    (ranking,) = snapshot.search(torch.ones(1, 1, 4), torch.ones(1, 1, dtype=torch.bool), 10)
    texts, sent = snapshot.collection.payload(ranking.addresses)
    assert sorted(texts) == sorted(d.id for d in documents if d)
    read = {text: json.loads(raw, parse_constant=pytest.fail) for text, raw in zip(texts, sent, strict=True)}
    assert read.pop("good") == {"n": 1} and all("_unreadable" in value for value in read.values())
