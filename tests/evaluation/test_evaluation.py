"""Judged collections and measures. Through the real server: tests/end_to_end/test_evaluate.py."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tridex.evaluation.dataset import DatasetError
from tridex.evaluation.loading import load_dataset
from tridex.evaluation.measures import DEFAULT_MEASURES, MeasureError, check_depth, evaluate, parse_measures
from tridex.evaluation.retrieval import Retrieval

IDS = st.sampled_from([f"d{i}" for i in range(30)])
SCORES = st.floats(-10, 10, width=32)
QUERIES = st.sampled_from([f"q{i}" for i in range(6)])


def beir(folder: Path, qrels: str = "query-id\tcorpus-id\tscore\nq1\td1\t1\n", packed: bool = False) -> Path:
    (folder / "qrels").mkdir(parents=True)
    (folder / "qrels" / "test.tsv").write_text(qrels)
    corpus = "".join(json.dumps({"_id": f"d{i}", "title": "T", "text": f"text {i}"}) + "\n" for i in range(3))
    if packed:
        (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(corpus.encode()))
    else:
        (folder / "corpus.jsonl").write_text(corpus)
    queries = [{"_id": "q1", "text": "one", "metadata": {"x": [1]}}, {"_id": "unjudged", "text": "two"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))
    return folder


@given(
    qrels=st.dictionaries(QUERIES, st.dictionaries(IDS, st.integers(0, 3), min_size=1), min_size=1),
    run=st.dictionaries(QUERIES, st.dictionaries(IDS, SCORES)),
)
def test_measures_are_those_of_ir_measures_on_the_run_file(
    tmp_path_factory: pytest.TempPathFactory, qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]]
) -> None:
    measures = parse_measures(DEFAULT_MEASURES)
    path = tmp_path_factory.mktemp("run") / "run.trec"
    ranked = {q: dict(sorted(found.items(), key=lambda item: -item[1])) for q, found in run.items()}
    Retrieval(ranked, [1.0]).write(path, "tag")
    expected = ir_measures.calc_aggregate(measures, qrels, list(ir_measures.read_trec_run(str(path))))
    means = evaluate(qrels, run, measures).means
    assert means == pytest.approx({str(measure): value for measure, value in expected.items()})


def test_a_query_without_hits_counts_with_zero() -> None:
    qrels = {"found": {"d": 1}, "empty": {"d": 1}, "missing": {"d": 1}, "nothing relevant": {"d": 0}}
    run = {"found": {"d": 1.0}, "empty": {}, "unjudged": {"d": 1.0}}
    evaluation = evaluate(qrels, run, parse_measures(["nDCG@10"]))
    assert evaluation.by_query == {"nDCG@10": {"found": 1, "empty": 0, "missing": 0, "nothing relevant": 0}}
    assert evaluation.means == {"nDCG@10": 0.25}


@pytest.mark.parametrize("name", ["", "nDGC@10", "nDCG@ten", "__import__('os')", "nDCG@10)"])
def test_unknown_measures_are_named(name: str) -> None:
    with pytest.raises(MeasureError, match="measure "):
        parse_measures([name])


def test_a_measure_that_looks_deeper_than_is_asked_for_is_refused() -> None:
    check_depth(parse_measures(["R@100", "AP"]), 100)
    with pytest.raises(MeasureError, match="measure R@100 looks at 100 documents and 50 are asked for"):
        check_depth(parse_measures(["nDCG@10", "R@100"]), 50)


@pytest.mark.parametrize("packed", [False, True])
def test_judged_queries_and_all_documents_are_read(tmp_path: Path, packed: bool) -> None:
    dataset = load_dataset(beir(tmp_path / "small", packed=packed))
    assert dataset.name == "small" and dataset.queries == {"q1": "one"} and dataset.qrels == {"q1": {"d1": 1}}
    assert [(document.id, document.text) for document in dataset.documents()] == [
        ("d0", "T text 0"), ("d1", "T text 1"), ("d2", "T text 2")
    ]  # fmt: skip


def test_malformed_collections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no qrels/dev.tsv.*existing splits: test"):
        load_dataset(beir(tmp_path / "a"), "dev")
    with pytest.raises(DatasetError, match=r"test.tsv, line 2: \['q1', 'd1', 'high'\]"):
        load_dataset(beir(tmp_path / "b", "query-id\tcorpus-id\tscore\nq1\td1\thigh\n"))
    with pytest.raises(DatasetError, match="judges query 'q9', which has no text"):
        load_dataset(beir(tmp_path / "c", "q9\td1\t1\n"))
    (tmp_path / "b" / "qrels" / "test.tsv").write_bytes(b"q1\td1\t1\nq1\t\xff\t1\n")
    with pytest.raises(DatasetError, match=r"test.tsv, after line \d: expected tab-separated values in UTF-8"):
        load_dataset(tmp_path / "b")
    (tmp_path / "b" / "qrels" / "test.tsv").write_text(f"q1\td1\t1\nq1\t{'x' * 200_000}\t1\n")
    with pytest.raises(DatasetError, match=r"test.tsv, after line 1: expected tab-separated values .*field larger"):
        load_dataset(tmp_path / "b")
    with pytest.raises(DatasetError, match="judges nothing"):
        load_dataset(beir(tmp_path / "d", "query-id\tcorpus-id\tscore\n"))
    folder = beir(tmp_path / "e")
    (folder / "corpus.jsonl").write_text('{"_id": "d0", "text": 5}\n')
    with pytest.raises(DatasetError, match=r"corpus.jsonl, line 1"):
        list(load_dataset(folder).documents())
    (folder / "corpus.jsonl").write_text('{"_id": "d0", "text": "a"}\n\n{"_id": "d0", "text": "b"}\n')
    with pytest.raises(DatasetError, match=r"corpus.jsonl, line 3: id 'd0' was there before \(.*, line 1\)"):
        list(load_dataset(folder).documents())
    (folder / "corpus.jsonl").write_text('{"_id": "d0", "text": "%s"}\n' % ("x" * 300_000))
    with pytest.raises(DatasetError, match=r"corpus.jsonl, line 1: text is 'xxx.*, 300000 bytes; expected"):
        list(load_dataset(folder).documents())
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "a"}\n{"_id": "q1", "text": "b"}\n')
    with pytest.raises(DatasetError, match=r"queries.jsonl, line 2: id 'q1' was there before \(.*, line 1\)"):
        load_dataset(folder)
    (folder / "queries.jsonl").write_bytes(b"\xff")
    with pytest.raises(DatasetError, match=r"queries.jsonl, line 1: expected JSON in UTF-8"):
        load_dataset(folder)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(DatasetError, match=r"no queries.jsonl"):
        load_dataset(folder)
