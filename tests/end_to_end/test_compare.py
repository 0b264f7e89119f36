"""`tridex compare` and `tridex index requantize` on the real server."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ir_measures
import pytest
from judged_folders import QUESTIONS, judged_folder
from typer.testing import CliRunner, Result

from tridex.client import Client
from tridex.client.cli import create_app
from tridex.serving.server import TritonServer

MEASURES = ("nDCG@10", "RR@10", "R@100")
SYSTEMS = (
    "bm25", "bi-encoder", "float32", "int8", "residual4", "float16+pool2", "int8+candidates", "float32+hybrid",
    "int8+rerank",
)  # fmt: skip


@pytest.fixture(scope="module")
def judged(stdlib: list[dict[str, object]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a query that BM25 finds nothing for."""
    return judged_folder(tmp_path_factory.mktemp("judged") / "compared", stdlib, {0: "zzzz qqqq"})


@pytest.fixture(scope="module")
def emptied(server: TritonServer) -> Iterator[None]:
    yield
    with Client(server.address) as client:
        for info in client.collections():
            if info.name.startswith("compared-"):
                client.drop_collection(info.name)


def compare(server: TritonServer, *arguments: object) -> Result:
    return CliRunner().invoke(
        create_app(), ["compare", *map(str, arguments), "--address", server.address, "--timeout", "120"]
    )


@pytest.mark.usefixtures("emptied")
def test_every_system_is_measured_as_by_ir_measures(judged: Path, server: TritonServer, tmp_path: Path) -> None:
    arguments = [judged, "--systems", ",".join(SYSTEMS), "--baseline", "float32"]
    arguments += ["--measures", ",".join(MEASURES), "--json"]
    absent = compare(server, *arguments)
    assert absent.exit_code == 1 and "no collection compared-float32, compared-int8" in absent.output
    arguments += ["--store", server.store, "--repository", server.repository, "--runs", tmp_path / "runs"]
    arguments += ["--keep", tmp_path / "kept"]
    done = compare(server, *arguments, "--page", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    (found,) = json.loads(done.stdout)["collections"]
    assert (found["name"], found["documents"], found["queries"]) == ("compared", 60, QUESTIONS)
    rows = {row["system"]: row for row in found["rows"]}
    assert tuple(rows) == SYSTEMS

    qrels = [
        ir_measures.Qrel(*line.split("\t")[:2], int(line.split("\t")[2]))
        for line in (judged / "qrels" / "test.tsv").read_text().splitlines()[1:]
    ]
    measures = [ir_measures.parse_measure(name) for name in MEASURES]
    for name, row in rows.items():
        run = list(ir_measures.read_trec_run(str(tmp_path / "runs" / f"compared.{name}.trec")))
        by_words = name in ("bm25", "int8+rerank")
        assert ("q0" in {hit.query_id for hit in run}) == (not by_words), "no document has its words"
        expected = ir_measures.calc_aggregate(measures, qrels, run)
        assert row["measures"] == pytest.approx({str(measure): value for measure, value in expected.items()})
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert set(row["p_values"]) == (set() if name == "float32" else set(MEASURES))
    sizes = {name: row["bytes_per_document"] for name, row in rows.items()}
    assert sizes["bm25"] is None and sizes["bi-encoder"] == 384 * 4
    assert sizes["float32"] == sizes["float32+hybrid"] > 3.5 * sizes["int8"] > 1.7 * sizes["residual4"]
    assert 1.8 < sizes["float32"] / 2 / sizes["float16+pool2"] < 2.1
    assert rows["int8"]["measures"]["nDCG@10"] == pytest.approx(rows["float32"]["measures"]["nDCG@10"], abs=0.05)
    assert (tmp_path / "page.html").read_text().count("<svg") == 2
    assert len(list((tmp_path / "kept").iterdir())) == 1, "the bi-encoder's vectors"

    # Everything is there: nothing is built, and a table is shown.
    again = compare(server, judged, "--systems", "bm25,int8", "--baseline", "int8")
    assert again.exit_code == 0, again.output
    assert "kB/document" in again.output and "Holm" in again.output
    with Client(server.address) as client:
        described = client.describe_collection("compared-int8")
        assert described.device_bytes == round(60 * sizes["int8"])
        assert (
            described.device_bytes
            < described.budget_bytes
            == pytest.approx(described.device_bytes / (7 / 8) ** 2, abs=2)
        )
        client.delete("compared-int8", ["nothing"])
        client.upsert("compared-int8", [{"id": "another", "text": "another"}])
    changed = compare(server, judged, "--systems", "int8", "--baseline", "int8")
    assert changed.exit_code == 1 and "'compared-int8' holds 61 documents, the corpus 60" in changed.output


@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--systems", "int4"], "system 'int4' is not known; expected bm25, bi-encoder, or a codec"),
        (["--systems", "int8", "--baseline", "float16"], "--baseline is 'float16'; expected one of the systems: int8"),
        (["--measures", "nDGC@10"], "measure 'nDGC@10' is not known"),
        (["--split", "dev"], "no qrels/dev.tsv, and without judgements nothing can be measured"),
        (["--systems", "bfloat16", "--baseline", "bfloat16"], "no collection compared-bfloat16; expected --store"),
        (
            ["--systems", "bfloat16", "--baseline", "bfloat16", "--store", "elsewhere"],
            "expected the folder that the server serves",
        ),
    ],
)
def test_what_cannot_be_compared_ends_with_one_line(
    judged: Path, server: TritonServer, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with Client(server.address) as client:
        client.create_collection("compared-other", codec="int8")
        before = [info.name for info in client.collections()]
        arguments = [str(tmp_path) if argument == "elsewhere" else argument for argument in arguments]
        done = compare(server, judged, *arguments, "--repository", server.repository)
        assert done.exit_code == 1 and message in done.output and done.output.count("\n") == 1, done.output
        assert [info.name for info in client.collections()] == before
        client.drop_collection("compared-other")


def test_what_is_served_is_compared_and_nothing_is_left_behind(
    judged: Path, server: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Late interaction, BM25 and the bi-encoder over a collection as it is served: nothing is built or encoded."""
    folder = tmp_path / "served"
    shutil.copytree(judged, folder)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    texts = [json.loads(line) for line in (folder / "corpus.jsonl").read_text().splitlines()]
    with Client(server.address) as client:
        client.upsert(
            "served", [{"id": row["_id"], "text": f"{row.get('title', '')} {row['text']}".strip()} for row in texts]
        )
        before = [(info.name, info.version) for info in client.collections()]
        done = compare(server, folder, "--json")
        assert done.exit_code == 0, done.output
        report = json.loads(done.stdout)
        (found,) = report["collections"]
        systems = [row["system"] for row in found["rows"]]
        assert systems == ["bm25", "bi-encoder", "float16", "float16+candidates", "float16+hybrid"]
        assert report["baseline"] == "float16"
        # One that is missing is made of the served one, and dropped.
        monkeypatch.setattr("tridex.evaluation.stores.build_collection", None)
        store = ["--store", server.store, "--repository", server.repository]
        done = compare(server, folder, "--systems", "int8", *store)
        assert done.exit_code == 0 and "int8" in done.output, done.output
        assert [(info.name, info.version) for info in client.collections()] == before
        assert not list((tmp_path / "temporary").iterdir())
        client.drop_collection("served")


@pytest.mark.usefixtures("emptied")
def test_a_collection_that_does_not_fit_is_left_as_it_is(judged: Path, server: TritonServer) -> None:
    with Client(server.address) as client:
        client.create_collection("compared-bfloat16", codec="int8")
        done = compare(server, judged, "--systems", "bfloat16", "--baseline", "bfloat16", "--store", server.store)
        assert done.exit_code == 1
        assert "'compared-bfloat16' is in int8 with pooling factor 1; expected bfloat16 and 1" in done.output
        assert client.describe_collection("compared-bfloat16").codec == "int8"


def test_requantize_makes_a_collection_that_is_served(client: Client, server: TritonServer) -> None:
    client.create_collection("whole", codec="float16")
    version = client.upsert("whole", [{"id": "a", "text": "one needle in a haystack"}, {"id": "b", "text": "custard"}])
    assert version
    command = ["index", "requantize", "whole", "smaller", "--codec", "int8", "--pooling-factor", "2"]
    command += ["--store", str(server.store), "--repository", str(server.repository)]
    done = CliRunner().invoke(create_app(), [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["documents"] == 2
    described = client.describe_collection("smaller")
    assert (described.codec, described.pooling_factor, described.count) == ("int8", 2, 2)
    found = client.search("smaller", "a needle", min_version=described.version)
    assert [hit.id for hit in found] == ["a", "b"]
    again = CliRunner().invoke(create_app(), command)
    assert again.exit_code == 1 and "tridex: collection 'smaller' exists already" in again.output
    unknown = CliRunner().invoke(create_app(), [*command[:3], "other", "--codec", "int4", *command[6:]])
    assert unknown.exit_code == 1 and "--codec is 'int4'; expected one of" in unknown.output
    client.drop_collection("whole")
    client.drop_collection("smaller")
