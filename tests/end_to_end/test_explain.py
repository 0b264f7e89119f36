"""Explained hits of the real server, against brute force by Sentence Transformers and its tokenizer."""

from __future__ import annotations

import asyncio
import json
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder

from tridex.client import AsyncClient, Client, InvalidArgument, NotFound
from tridex.serving.server import TritonServer

QUERIES = ["how to delete a directory and everything in it", "parse a date from text", "what is a weak reference?"]
TRIDEX = Path(sys.executable).parent / "tridex"


@pytest.fixture(scope="module")
def texts(stdlib: list[dict[str, object]]) -> dict[str, str]:
    rows = [row for row in stdlib if str(row["_id"]).startswith("shutil")][:30]
    return {str(row["_id"]): str(row["text"]) for row in rows}


@pytest.fixture(scope="module")
def explained(server: TritonServer, texts: dict[str, str]) -> str:
    with Client(server.address, timeout_s=120) as client:
        client.create_collection("explained", codec="float32", long_documents="truncate")
        client.upsert("explained", ({"id": key, "text": text} for key, text in texts.items()), batch_size=64)
        client.search("explained", "read your writes")
    return "explained"


def test_an_explanation_is_brute_force(client: Client, explained: str, texts: dict[str, str], checkpoint: Path) -> None:
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    documents = model.encode_document(list(texts.values()), convert_to_numpy=True)
    same = total = 0
    for query, tokens in zip(QUERIES, model.encode_query(QUERIES, convert_to_numpy=True), strict=True):
        hits = client.explain(explained, query, [*texts, "gone", *texts], matrix=True)
        assert hits[len(texts)] is None and hits[: len(texts)] == hits[len(texts) + 1 :]
        for hit, (key, text), embeddings in zip(hits, texts.items(), documents, strict=False):
            assert hit is not None and hit.explanation is not None and (hit.id, hit.text) == (key, text)
            explanation = hit.explanation
            similarities = tokens @ embeddings.T
            np.testing.assert_allclose(explanation.matrix, similarities, atol=1e-3)
            assert sum(token.contribution for token in explanation.query_tokens) == pytest.approx(hit.score, abs=1e-4)
            places = scoring_places(model, text)
            for token, row in zip(explanation.query_tokens, similarities, strict=True):
                assert token.contribution == pytest.approx(row.max(), abs=1e-3) and token.match is not None
                same += (token.match.start or 0, token.match.end or 0) == places[int(row.argmax())]
                total += 1
    print(f"{same} of {total} matches are those of brute force")
    assert total > 500 and same >= 0.99 * total


def scoring_places(model: MultiVectorEncoder, text: str) -> list[tuple[int, int]]:
    """Of the document's tokens that score, by transformers' tokenizer; (0, 0) for special tokens."""
    read = model.tokenizer(text, truncation=True, max_length=256, return_offsets_mapping=True)
    tokens = model.tokenizer.convert_ids_to_tokens(read["input_ids"])
    return [
        place
        for token, place in zip(tokens, read["offset_mapping"], strict=True)
        if token not in set(string.punctuation)
    ]


def test_a_search_explains_its_best_hits(client: Client, explained: str, server: TritonServer) -> None:
    result = client.search(explained, QUERIES[0], explain=3)
    assert [hit.explanation is not None for hit in result] == [True] * 3 + [False] * 7
    best = result[0]
    assert best.explanation is not None and best.text is not None
    assert "directory" in [span.text.lower() for span in best.explanation.spans]
    assert all(best.text[span.start : span.end] == span.text for span in best.explanation.spans)
    plain = client.search(explained, QUERIES[0])
    assert [(hit.id, hit.score) for hit in plain] == [(hit.id, hit.score) for hit in result]

    async def asynchronously() -> object:
        async with AsyncClient(server.address, timeout_s=120) as other:
            (one,) = await other.explain(explained, QUERIES[0], [best.id])
            several = await other.search_batch(explained, QUERIES * 3, explain=True, with_text=False)
            assert all(hit.explanation for found in several for hit in found)
            return one

    assert asyncio.run(asynchronously()) == best
    by_embeddings = client.search(explained, client.encode_query(QUERIES[0]), explain=1)[0].explanation
    assert by_embeddings is not None and by_embeddings.score == pytest.approx(best.score, abs=1e-3)
    assert {(token.token, token.start) for token in by_embeddings.query_tokens} == {(None, None)}
    assert by_embeddings.special_share > 0


def test_what_cannot_be_explained_is_said(client: Client, explained: str) -> None:
    assert client.explain(explained, "a query", []) == []
    with pytest.raises(NotFound):
        client.explain("nowhere", "a query", ["1"])
    with pytest.raises(InvalidArgument, match="mode bm25, which compares no token embeddings"):
        client.search(explained, "directory", mode="bm25", explain=True)
    with pytest.raises(InvalidArgument, match="explain: expected an integer of at least 0 and at most 64, got 65"):
        client.search(explained, "directory", explain=65)


def test_the_command_line_marks_words_and_writes_a_page(explained: str, server: TritonServer, tmp_path: Path) -> None:
    def run(*options: str) -> str:
        command = [str(TRIDEX), "search", explained, QUERIES[0], "-k", "2", "--address", server.address, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    shown = run("--explain", "--page", str(tmp_path / "why.html"))
    assert "[directory]" in shown and "2 hits in explained" in shown
    result = json.loads(run("--json", "--page", str(tmp_path / "why.svg")))
    assert result["hits"][0]["explanation"]["spans"]
    for name, beginning in (("why.html", "<!doctype html>"), ("why.svg", "<svg")):
        page = (tmp_path / name).read_text("utf-8")
        assert page.startswith(beginning) and "shutil.rmtree" in page
