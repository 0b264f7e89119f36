"""What mining writes. With the real server: tests/end_to_end/test_mining.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tridex.training.examples import Example, read_examples
from tridex.training.mining import write_examples

EXAMPLES = [Example("q1", "positive 1", ("negative 1",)), Example("q2", "positive 2", ("negative 2",))]


def test_what_is_written_is_read_by_the_training(tmp_path: Path) -> None:
    assert write_examples(tmp_path / "triplets.jsonl", iter(EXAMPLES)) == 2
    assert read_examples(tmp_path / "triplets.jsonl") == EXAMPLES
    assert [path.name for path in tmp_path.iterdir()] == ["triplets.jsonl"]


@pytest.mark.parametrize("error", [OSError("the server is gone"), KeyboardInterrupt()])
def test_a_mining_that_fails_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def until_it_fails() -> Iterator[Example]:
        yield EXAMPLES[0]
        raise error

    with pytest.raises(type(error)):
        write_examples(tmp_path / "triplets.jsonl", until_it_fails())
    assert not list(tmp_path.iterdir())
