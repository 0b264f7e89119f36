"""Which columns are taken for ids and texts, and what the page is told of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tridex.playground.guessing import NumberedRows, guess_columns
from tridex.playground.session import collection_name, example_questions, in_words
from tridex.protocol.columns import Columns
from tridex.protocol.corpus import CorpusDocument, CorpusError
from tridex.protocol.sources import open_source

PLOT = "a crew finds something that it should not have found"


def written(folder: Path, text: str, name: str = "films.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("header", "row", "ids", "texts"),
    [
        ("film_id,title,plot,year", f"7,Alien,{PLOT},1979", "film_id", ["title", "plot"]),
        ("plot,sku", f"{PLOT},A-7", "sku", ["plot"]),
        ("film,plot", f"alien,{PLOT}", "film", ["plot"]),
        ("id,text,year", f"7,{PLOT},1979", "id", ()),
        ("_id,summary,notes,where", f"7,Alien,{PLOT},Los Angeles", "_id", ["summary", "notes"]),
        ("no,word", "7,Alien", "no", ["word"]),
    ],
)
def test_columns_are_guessed(tmp_path: Path, header: str, row: str, ids: str | None, texts: list[str]) -> None:
    guessed = guess_columns(written(tmp_path, f"{header}\n{row}\n"), Columns())
    assert (guessed.id, guessed.text) == (ids, texts)


def test_what_is_given_stays(tmp_path: Path) -> None:
    path = written(tmp_path, f"no,title,plot\n7,Alien,{PLOT}\n")
    assert guess_columns(path, Columns("title", ["no"])) == Columns("title", ["no"])
    assert guess_columns(path, Columns(text=["title"])).id == "no"
    assert guess_columns(path, Columns(id="title")).text == ["plot"]


def test_rows_without_an_id_have_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, f"year,plot\n1979,{PLOT}\n1979,{PLOT}\n")
    guessed = guess_columns(path, Columns())
    assert isinstance(guessed, NumberedRows) and in_words(guessed) == "numbered by line, texts from plot"
    documents = [row for _, row in open_source(path, guessed).rows()]
    assert documents == [CorpusDocument(f"line {line}", PLOT, {"year": 1979}) for line in (2, 3)]


def test_columns_that_are_missing_are_named_with_those_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, f"year,plot\n1979,{PLOT}\n1979,{PLOT}\n")
    with pytest.raises(CorpusError, match=r"has the columns \['year', 'plot'\]; expected story, or --text"):
        open_source(path, guess_columns(path, Columns(text=["story"])))


def test_json_is_guessed_as_csv_is(tmp_path: Path) -> None:
    rows = [{"key": i, "body": PLOT, "tags": ["a"], "seen": True} for i in range(3)]
    path = written(tmp_path, json.dumps(rows), "films.json")
    assert guess_columns(path, Columns()) == Columns("key", ["body"])


def test_a_file_without_text_says_what_it_has(tmp_path: Path) -> None:
    path = written(tmp_path, "id,year\n7,1979\n")
    with pytest.raises(
        CorpusError, match=r"has the columns \['id', 'year'\], none of which holds text; expected --text"
    ):
        guess_columns(path, Columns())


def test_names_and_questions_follow_from_the_file() -> None:
    assert [collection_name(Path(name)) for name in ("a/films.csv.gz", "Filme (2024).csv", "日本.csv")] == [
        "films",
        "Filme-2024",
        "documents",
    ]
    assert example_questions(["One. Two.", "One. Three.", "a b c d e f g h i j"]) == ["One.", "a b c d e f g h"]
