"""A small judged collection in BEIR's layout, made of the standard library's documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

QUESTIONS = 20
"""Judged queries."""


def judged_folder(folder: Path, stdlib: list[dict[str, object]], replaced: Mapping[int, str] | None = None) -> Path:
    """60 functions, the first line of each one's description as a query, and judgements for `QUESTIONS` of them.

    `replaced` gives some queries another text, by their number.
    """
    (folder / "qrels").mkdir(parents=True)
    rows = [row for row in stdlib if len(str(row["text"]).split("\n\n")) > 1][:60]
    lines = [json.dumps({"_id": row["_id"], "text": row["text"]}) for row in rows]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    texts = [str(row["text"]).split("\n\n")[1][:80] for row in rows]
    for i, text in (replaced or {}).items():
        texts[i] = text
    queries = [json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    judgements = [f"q{i}\t{row['_id']}\t1" for i, row in enumerate(rows[:QUESTIONS])]
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(judgements))
    return folder
