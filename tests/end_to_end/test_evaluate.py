"""`tridex evaluate` on the real server."""

from __future__ import annotations

import json
from pathlib import Path

import ir_measures
import pytest
from judged_folders import QUESTIONS, judged_folder
from typer.testing import CliRunner

from tridex.client import Client
from tridex.client.cli import create_app
from tridex.serving.server import TritonServer


@pytest.fixture(scope="module")
def judged(stdlib: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return judged_folder(tmp_path_factory.mktemp("judged") / "functions", stdlib)


def test_the_report_is_what_ir_measures_says_of_the_run(judged: Path, server: TritonServer, tmp_path: Path) -> None:
    run = tmp_path / "run.trec"
    arguments = [
        "evaluate",
        str(judged),
        "--codec",
        "float32",
        "--run",
        str(run),
        "--json",
        "--address",
        server.address,
    ]
    first = CliRunner().invoke(create_app(), arguments)
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert (report["queries"], report["documents"], report["codec"]) == (QUESTIONS, 60, "float32")
    assert 0 < report["p50_ms"] <= report["p95_ms"] <= report["p99_ms"]
    names = ("nDCG@10", "RR@10", "R@10", "R@100")
    measures = [ir_measures.parse_measure(name) for name in names]
    qrels = [
        ir_measures.Qrel(*line.split("\t")[:2], int(line.split("\t")[2]))
        for line in (judged / "qrels" / "test.tsv").read_text().splitlines()[1:]
    ]
    expected = ir_measures.calc_aggregate(measures, qrels, ir_measures.read_trec_run(str(run)))
    assert {name: report[name] for name in names} == pytest.approx({str(m): value for m, value in expected.items()})
    assert report["R@100"] == 1 and report["nDCG@10"] > 0.5
    # The corpus is there, so nothing is written again.
    with Client(server.address) as client:
        version = client.describe_collection("functions").version
        assert CliRunner().invoke(create_app(), arguments).exit_code == 0
        assert client.describe_collection("functions").version == version
        refused = CliRunner().invoke(create_app(), [*arguments, "--codec", "int8"])
        assert refused.exit_code == 1 and "has the codec float32, not int8" in refused.output
        client.upsert("functions", [{"id": "another", "text": "another"}])
        refused = CliRunner().invoke(create_app(), arguments)
        assert refused.exit_code == 1 and "holds 61 documents, the corpus of functions 60" in refused.output
        client.drop_collection("functions")


def test_what_cannot_be_measured_ends_with_one_line(judged: Path, server: TritonServer) -> None:
    for arguments, message in (
        ([str(judged), "--measures", "nDGC@10"], "measure 'nDGC@10' is not known"),
        ([str(judged), "--split", "dev"], "no qrels/dev.tsv"),
        ([str(judged.parent)], "no qrels/test.tsv"),
    ):
        result = CliRunner().invoke(create_app(), ["evaluate", *arguments, "--address", server.address])
        assert result.exit_code == 1 and result.output.startswith("tridex: ") and message in result.output
        assert result.output.count("\n") == 1
