"""`tridex mine` on the real server: what it writes is hard, is not the positive, and is what training reads."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tridex.client import Client
from tridex.client.cli import create_app
from tridex.serving.server import TritonServer
from tridex.training.examples import read_examples


def test_negatives_rank_high_and_are_not_the_positive(
    stdlib: list[dict[str, object]], server: TritonServer, client: Client, tmp_path: Path
) -> None:
    texts = [str(row["text"]) for row in stdlib if len(str(row["text"]).split("\n\n")) > 1][:120]
    pairs = [{"query": text.split("\n\n")[1][:80], "positive": text} for text in texts]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    output = tmp_path / "triplets.jsonl"
    arguments = ["mine", str(tmp_path / "pairs.jsonl"), str(output), "--collection", "mined", "--negatives", "2"]
    arguments += ["--depth", "20", "--margin", "0.9", "--address", server.address]
    result = CliRunner().invoke(create_app(), arguments)
    assert result.exit_code == 0, result.output

    examples = read_examples(output)
    assert len(examples) > 60
    for example in examples:
        assert len(set(example.negatives)) == 2 and example.positive not in example.negatives
    for example in examples[:10]:
        hits = client.search("mined", example.query, top_k=120)
        scores = {hit.text: hit.score for hit in hits}
        first = [hit.text for hit in hits][:20]
        limit = 0.9 * (scores[example.positive] if example.positive in first else hits[19].score)
        allowed = [text for text in first if text != example.positive and scores[text] <= limit * 1.0001]
        assert list(example.negatives) == allowed[:2]

    again = CliRunner().invoke(create_app(), arguments)
    assert again.exit_code == 1 and "triplets.jsonl exists already" in again.output
    client.drop_collection("mined")
