"""Judged collections by names of ir_datasets. These are registered here: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ir_datasets
import pytest
from ir_datasets.datasets.base import Dataset as Registered
from ir_datasets.formats import TrecQrels, TsvDocs, TsvQueries
from ir_datasets.util import LocalDownload

from tridex.evaluation.dataset import DatasetError
from tridex.evaluation.loading import load_dataset


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("public")
    (folder / "docs.tsv").write_text("d1\tone text\nd2\t \nd3\tthird text\n")
    (folder / "queries.tsv").write_text("q1\tfirst question\nq2\tunjudged question\n")
    (folder / "qrels").write_text("q1 0 d3 2\nq1 0 d1 0\n")
    (folder / "unknown-query").write_text("q9 0 d3 1\n")
    documents, queries = TsvDocs(LocalDownload(folder / "docs.tsv")), TsvQueries(LocalDownload(folder / "queries.tsv"))
    qrels = TrecQrels(LocalDownload(folder / "qrels"), {})
    ir_datasets.registry.register("tridex-tests/small/test", Registered(documents, queries, qrels))
    ir_datasets.registry.register("tridex-tests/unjudged", Registered(documents, queries))
    wrong = TrecQrels(LocalDownload(folder / "unknown-query"), {})
    ir_datasets.registry.register("tridex-tests/wrong", Registered(documents, queries, wrong))
    yield
    for name in ("small/test", "unjudged", "wrong"):
        del ir_datasets.registry._registered[f"tridex-tests/{name}"]


@pytest.mark.usefixtures("registered")
def test_a_public_collection_is_read_as_a_folder_is() -> None:
    dataset = load_dataset("ir_datasets:tridex-tests/small/test")
    assert (dataset.name, dataset.split) == ("tridex-tests-small-test", "")
    assert dataset.queries == {"q1": "first question"} and dataset.qrels == {"q1": {"d3": 2, "d1": 0}}
    assert [(d.id, d.text) for d in dataset.documents()] == [("d1", "one text"), ("d3", "third text")]
    assert len(list(dataset.documents())) == 2, "read as often as wanted"


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("tridex-tests/none", None, "ir_datasets knows no 'tridex-tests/none'"),
        ("tridex-tests/unjudged", None, "has no judgements, so nothing can be measured"),
        ("tridex-tests/wrong", None, "judges query 'q9', which has no text in its queries"),
        ("tridex-tests/small/test", "dev", "split is 'dev' beside ir_datasets:tridex-tests/small/test"),
    ],
)
def test_what_cannot_be_judged_is_refused(name: str, split: str | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset(f"ir_datasets:{name}", split)
