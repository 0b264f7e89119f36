"""Datasets in BEIR's layout: corpus.jsonl or corpus.jsonl.gz, queries.jsonl, qrels/test.tsv."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Beir:
    """Texts by id; only the judged queries."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_beir(folder: Path, documents: int | None = None, queries: int | None = None) -> Beir:
    """Reads at most so many documents, judged ones first, and the first so many judged queries; all where None."""
    qrels: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        qrels.setdefault(query, {})[document] = int(grade)
    qrels = dict(list(qrels.items())[:queries])
    judged = {document for grades in qrels.values() for document in grades}
    rows = sorted(_rows(folder / "corpus.jsonl"), key=lambda row: row["_id"] not in judged)[:documents]
    texts = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl")}
    return Beir(
        name=folder.name,
        documents={row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in rows},
        queries={key: texts[key] for key in qrels},
        qrels=qrels,
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of the file, or of its .gz."""
    packed = path.with_name(f"{path.name}.gz")
    with gzip.open(packed, "rt") if packed.exists() else path.open() as lines:
        for line in lines:
            yield json.loads(line)
