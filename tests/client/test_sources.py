"""Documents in files of every kind, with any names of columns, and what is wrong with a row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tridex.protocol.columns import Columns
from tridex.protocol.corpus import CorpusError
from tridex.protocol.separated_values import _type_of
from tridex.protocol.sources import open_source

ROWS = [
    {"no": 7, "name": "Alien", "plot": "a crew", "year": 1979, "score": 8.5, "tags": ["space"]},
    {"no": 8, "name": "Heat", "plot": 'a "heist",\nand a chase', "year": 1995, "score": 8.0, "tags": []},
]
FILMS = Columns("no", ("name", "plot"))
BOM = b"\xef\xbb\xbf"


def read(path: Path, columns: Columns = FILMS) -> list[Any]:
    source = open_source(path, columns)
    rows = list(source.rows())
    assert source.count() == len(rows) and list(map(str, rows)) == list(map(str, source.rows()))
    return [row.document if isinstance(row.document, tuple) else str(row.document) for row in rows]


def test_every_kind_of_file_holds_the_same_documents(tmp_path: Path) -> None:
    lines = "\r\n\r\n".join(map(json.dumps, ROWS)).encode()
    (tmp_path / "films.jsonl").write_bytes(BOM + lines)
    (tmp_path / "films.json").write_bytes(BOM + b"\n" + json.dumps(ROWS, indent=1).encode())
    (tmp_path / "lines.json").write_bytes(lines)
    (tmp_path / "films.json.gz").write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    (tmp_path / "films.ndjson.gz").write_bytes(gzip.compress(lines))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "films.parquet")
    expected = [
        (str(row["no"]), f"{row['name']} {row['plot']}", {key: row[key] for key in ("year", "score", "tags")})
        for row in ROWS
    ]
    files = sorted(path for path in tmp_path.iterdir())
    assert len(files) == 6 and all(read(path) == expected for path in files)


def test_cells_have_the_type_that_all_of_their_column_have(tmp_path: Path) -> None:
    content = (
        "no,name,plot,year,price,open,zip,when,none,mixed\r\n"
        '7,Alien,"a ""crew""\nof seven",1979,1,True,0123,2020-01-01,,1\r\n'
        "\r\n"
        "x8,42,,-5,2.5,false,90210,,,true\r\n"
    )
    common = {"zip": "0123", "when": "2020-01-01", "mixed": "1"}
    expected = [
        ("7", 'Alien a "crew"\nof seven', {"year": 1979, "price": 1.0, "open": True, **common}),
        ("x8", "42", {"year": -5, "price": 2.5, "open": False, "zip": "90210", "mixed": "true"}),
    ]
    (tmp_path / "films.csv").write_bytes(BOM + content.encode())
    (tmp_path / "films.tsv.gz").write_bytes(gzip.compress(content.replace(",", "\t").encode()))
    assert read(tmp_path / "films.csv") == read(tmp_path / "films.tsv.gz") == expected


@given(st.integers() | st.floats() | st.text(max_size=8))
def test_a_cell_becomes_a_number_only_where_nothing_is_lost(value: object) -> None:
    cell = str(value)
    kind = _type_of(cell)
    if kind is int:
        assert str(int(cell)) == cell or cell == "-0"
    elif kind is float:
        assert float(cell) == float(cell) and cell.strip() == cell


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"no,name,plot\n1,a,b\n2,c\n", "a.csv, line 3: 2 values; expected 3, a column each"),
        ("a.csv", b'no,name,plot\n1,"a\nb",c\n2,d,e,f\n', "a.csv, line 4: 4 values; expected 3"),
        (
            "a.jsonl",
            b'{"no": 1, "name": "a"}',
            "a.jsonl, line 1: no plot; expected one, or --text with another name of",
        ),
        (
            "a.jsonl",
            b'{"name": "a", "plot": "b"}',
            "a.jsonl, line 1: no no; expected one, or --id with another name of",
        ),
        (
            "a.json",
            b'[{"no": true, "name": "a", "plot": "b"}]',
            "a.json, row 1: no is True; expected an id, a string or",
        ),
        ("a.json", b'[{"no": "1", "name": 5, "plot": "b"}]', "a.json, row 1: name is 5; expected text"),
        ("a.json", b"[7]", "a.json, row 1: expected an object, got 7"),
        (
            "a.json",
            b'[{"no": "1", "name": "a", "plot": "b", "metadata": "x"}]',
            "row 1: metadata is 'x'; expected an obj",
        ),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert message in read(tmp_path / name)[-1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a.csv has the columns \[\]; expected no, or --id with another"),
        ("a.csv", b"no,,plot\n", "a.csv: the first row is .*; expected the names of the columns"),
        ("a.csv", b"no,name,no\n", r"a.csv has the columns \['no', 'name', 'no'\]; expected distinct ones"),
        ("a.csv", b"no,name\n", r"a.csv has the columns \['no', 'name'\]; expected plot, or --text with another"),
        ("a.csv", b'no,name,plot\n1,"a', "a.csv, line 2: expected rows of text in UTF-8 .unexpected end of data"),
        ("a.json", b"[1, 2", "a.json: expected a JSON array in UTF-8"),
        ("a.xml", b"", r"a.xml: expected a .jsonl, .json, .csv, .tsv or .parquet file"),
    ],
)
def test_a_file_that_holds_no_documents(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(open_source(tmp_path / name, FILMS).rows())
