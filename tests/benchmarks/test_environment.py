"""What benchmarks serve, and under which name its figures are filed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks import environment, publishing
from tridex.client import Document
from tridex.protocol.sources import open_source


def test_a_beir_folder_is_served_with_its_judged_queries(tmp_path: Path) -> None:
    folder = tmp_path / "science"
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": "a", "title": "Mars", "text": "is red"}, {"_id": "b", "title": "", "text": "the moon"}]
    with gzip.open(folder / "corpus.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in documents)
    queries = [{"_id": "1", "text": "which planet is red"}, {"_id": "2", "text": "judged by nobody"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\tb\t1\n")
    corpus = environment.chosen(folder, tmp_path)
    assert corpus.collection("int8") == "science-int8"
    assert sorted((one.id, one.text) for one in corpus.documents) == [("a", "Mars is red"), ("b", "the moon")]
    assert corpus.questions == ["which planet is red"]


def test_documents_are_built_as_they_are(tmp_path: Path) -> None:
    documents = [Document("a", "one\ntwo", {"n": 1}), Document("b", "é")]
    read = open_source(environment.write_jsonl(tmp_path / "rows.jsonl", documents)).rows()
    assert [(row.document.id, row.document.text, row.document.metadata) for row in read] == [  # type: ignore[union-attr]
        ("a", "one\ntwo", {"n": 1}),
        ("b", "é", {}),
    ]


def test_figures_of_another_device_or_corpus_replace_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "device_name", lambda: "nvidia-h200")
    assert publishing.filed("start", "cpu") == "start"
    assert publishing.filed("start", "cuda:0") == "start-nvidia-h200"
    assert publishing.filed("serving", "cpu", "scifact") == "serving-scifact"
    assert publishing.filed("serving", "cuda:0", "scifact") == "serving-scifact-nvidia-h200"
