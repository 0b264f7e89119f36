"""What is wrong with a file is said before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tridex.playground.session import Choices, run
from tridex.protocol.corpus import CorpusError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,text\n1,one\n2,two,three\n", "line 3: 3 values; expected 2, a column each"),
        ("id,text\n1,one\n1,two\n", "line 3"),
        ("id,text\n1,\n", "holds no document with a text"),
        ("id,text\n", "holds no document with a text"),
        ("", r"has the columns \[\]; expected _id or id"),
    ],
)
def test_a_bad_file_starts_nothing(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "films.csv"
    path.write_text(text)
    choices = Choices(path, None, (), {}, tmp_path / "store", tmp_path / "repository", "default", "cpu", 0)
    with pytest.raises(CorpusError, match=message):
        run(choices)
    assert [file.name for file in tmp_path.iterdir()] == ["films.csv"]


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    choices = Choices(tmp_path / "gone.csv", None, (), {}, None, tmp_path, "default", "cpu", 0)
    with pytest.raises(CorpusError, match=r"gone\.csv does not exist"):
        run(choices)
