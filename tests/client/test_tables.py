"""Tables at 80 columns: no name of a collection, no measure and no number is folded or cut."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

from tridex.client.cli import create_app
from tridex.common.terminal.output import print_table
from tridex.evaluation.report import Judged, Report, Row
from tridex.evaluation.table import cost, quality

LONG = "functional-programming-documents-of-every-language-and-every-age"
COLLECTION = {
    "count": 123_456_789,
    "version": 123_456,
    "codec": "float8_e4m3",
    "dim": 1024,
    "fingerprint": "f" * 64,
    "fields": {"category": "datetime", "year": "int", "a_field_with_a_name_of_some_length": "str"},
    "document_length": 8192,
    "long_documents": "windows",
    "pooling_factor": 3,
}
NUMBERS = ("123,456,789", "123,456", "float8_e4m3", "1,024", "ffffffffffff", "datetime")
HITS = {
    "IDS": [["a-document", "https://example.com/with/a/very/long/address/of/some/document"]],
    "SCORES": np.array([[1234.5, 0.25]], np.float32),
    "TEXTS": [["word " * 100, "日本語" * 100]],
    "METADATA": [["{}", "{}"]],
    "VERSION": np.array([[3]]),
}


@pytest.fixture(params=["functional-programming", LONG], ids=["usual", "longest"])
def name(request):
    """Of a collection."""
    return request.param


@pytest.fixture
def run(triton, monkeypatch, name):
    """What a command prints on a terminal of 80 columns."""
    collection = COLLECTION | {"name": name}
    alias = {"alias": f"to-{name}"[:64], "collection": name}
    rows = {"collections": [collection], "collection": [collection], "aliases": [alias]}

    def answer(request):
        if request.model == "search":
            return {name: HITS[name] for name in request.outputs}
        if request.model == "rerank":
            return {"SCORES": np.array([[0.78125, 1234.5]], np.float32)}
        if request.model == "encode_query":
            return {"EMBEDDINGS": np.ones((1, 3, 2), np.float32), "EMBEDDING_MASK": np.ones((1, 3), np.int64)}
        if request.model == "ingest":
            return {"VERSION": np.array([[9]])}
        return {"ROWS": [[json.dumps(row) for row in rows[request.parameters["operation"]]]]}

    triton.answer = answer
    model = triton.statistics.model_stats.add(name="encode_document", execution_count=12_345_678)
    model.inference_stats.success.count = model.inference_stats.queue.count = 123_456_789
    model.inference_stats.queue.ns = 123_456_789 * 1_234_567_891
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TRIDEX_ADDRESS", triton.address)

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(create_app(), list(arguments))
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


@pytest.mark.parametrize(
    ("command", "whole"),
    [
        ("collections list", NUMBERS),
        ("collections describe {}", NUMBERS),
        ("collections create {}", NUMBERS),
        ("stats", (*NUMBERS, "encode_document", "123,456,789", "12,345,678", "1,234.568")),
        ("alias list", ()),
        ("search {} q", ("1,234.500", "0.250", "a-document")),
        ("rerank q one two", ("0.781", "1,234.500", "one", "two")),
        ("encode text", ("3", "2", "text")),
    ],
)
def test_every_command_that_prints_a_table(run, name, command, whole):
    text = run(*command.format(name).split())
    named = (name,) if name in command.format(name) or "list" in command or command == "stats" else ()
    assert [value for value in (*named, *whole) if value not in text] == []
    if name != LONG:
        assert max(map(cell_len, text.splitlines())) <= 80


MEASURES = ["nDCG@10", "RR@10", "R@10", "R@100", "nDCG(dcg='exp-log2')@20", "P(rel=2)@5"]
SYSTEMS = ["float16", "float8_e4m3+pool64+candidates", "bm25"]


def report() -> Report:
    measures = dict.fromkeys(MEASURES, 0.78125)
    rows = [
        Row(name, "float16", 1, "exact", measures, {}, 1234.5, 2345.6, 3456.7, 1_234_567.0, 1_500_000.0)
        for name in SYSTEMS
    ]
    return Report("checkpoint", "float16", MEASURES, [Judged("docs", "test", 10, 5, rows)])


def test_the_proposal_of_tune(run, tmp_path):
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(report().to_dict()))
    text = run("tune", str(file), "--budget-gb", "1000", "--p95-ms", "5000")
    assert [value for value in ("nDCG@10", *SYSTEMS, "0.781", "2,345.600") if value not in text] == []


def test_the_tables_of_compare(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    rows = report().collections[0].rows
    print_table(*quality(rows, report()))
    print_table(*cost(rows))
    text = capsys.readouterr().out
    assert [value for value in (*MEASURES, *SYSTEMS, "0.7812", "3,456.700", "1,234.6") if value not in text] == []
    assert max(map(cell_len, text.splitlines())) <= 80


def test_the_table_of_evaluate(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_table(("measure", "value"), [(name, 0.78125) for name in MEASURES])
    text = capsys.readouterr().out
    assert text.count("0.781") == len(MEASURES) and all(name in text for name in MEASURES)


CELLS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=70)


@given(st.integers(1, 120), st.lists(st.tuples(CELLS, CELLS, st.integers(), st.floats(), CELLS), max_size=3))
def test_names_and_numbers_are_whole_at_any_width(width, rows):
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setenv("COLUMNS", str(width))
        print_table(("first", "second", "third", "fourth", "words"), rows, prose=("words",))
    text = out.getvalue()
    for first, second, third, fourth, _ in rows:
        assert all(value in text for value in (first, second, f"{third:,}", f"{fourth:,.3f}"))


def test_no_rows_are_a_head(capsys):
    print_table(("alias", "collection"), [])
    assert "alias  collection" in capsys.readouterr().out
