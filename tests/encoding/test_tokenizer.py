"""Tokens and masks of a tokenizer small enough to work out by hand. Against Sentence Transformers: tests/export."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from tridex.encoding import EncodingRules, Expansion, TextRules, TokenBatch, Tokenizer

WORDS = ["[PAD]", "[MASK]", "q:", "d:", "the", "cat", "sat", "."]
PAD, MASK, QUERY, DOCUMENT, THE, CAT, SAT, DOT = range(8)
PLAIN = EncodingRules(
    query=TextRules("q: ", length=4),
    document=TextRules("d: ", length=6, skip_token_ids=(DOT,)),
    expansion=None,
    pad_token_id=PAD,
    truncation_side="right",
    split_special_tokens=False,
    dim=2,
    similarity="maxsim",
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture
def make(path: Path) -> Callable[..., Tokenizer]:
    def tokenizer(pad_to_multiple_of: int = 1, **changes: object) -> Tokenizer:
        return Tokenizer(path, replace(PLAIN, **changes), pad_to_multiple_of=pad_to_multiple_of)  # type: ignore[arg-type]

    return tokenizer


def rows(batch: TokenBatch) -> list[list[list[int]]]:
    return [batch.input_ids.tolist(), batch.attention_mask.tolist(), batch.embedding_mask.tolist()]


def test_documents_skip_tokens_that_are_still_attended_to(make: Callable[..., Tokenizer]) -> None:
    assert rows(make().documents(["the cat sat .", "cat"])) == [
        [[DOCUMENT, THE, CAT, SAT, DOT], [DOCUMENT, CAT, PAD, PAD, PAD]],
        [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]],
        [[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]],
    ]


def test_queries_are_cut_and_score_punctuation(make: Callable[..., Tokenizer]) -> None:
    assert rows(make().queries([". the cat sat sat"])) == [[[QUERY, DOT, THE, CAT]], [[1, 1, 1, 1]], [[1, 1, 1, 1]]]


@pytest.mark.parametrize(("attend", "attention"), [(False, [1, 1, 0, 0]), (True, [1, 1, 1, 1])])
def test_fixed_expansion(make: Callable[..., Tokenizer], attend: bool, attention: list[int]) -> None:
    batch = make(expansion=Expansion("fixed", 4, MASK, attend)).queries(["cat"])
    assert rows(batch) == [[[QUERY, CAT, MASK, MASK]], [attention], [[1, 1, 1, 1]]]


def test_min_expansion_fills_up_to_its_floor_only(make: Callable[..., Tokenizer]) -> None:
    batch = make(expansion=Expansion("min", 3, MASK, attend=False)).queries(["cat", "the cat sat"])
    assert rows(batch) == [
        [[QUERY, CAT, MASK, PAD], [QUERY, THE, CAT, SAT]],
        [[1, 1, 0, 0], [1, 1, 1, 1]],
        [[1, 1, 1, 0], [1, 1, 1, 1]],
    ]


def test_allow_list(make: Callable[..., Tokenizer]) -> None:
    only = TextRules("", length=6, only_token_ids=(CAT, DOT), skip_token_ids=(DOT,))
    assert make(document=only).documents(["the cat ."]).embedding_mask.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(("multiple", "width"), [(1, 3), (2, 4), (5, 5), (8, 6)])
def test_width_is_rounded_up_to_what_the_checkpoint_reads(
    make: Callable[..., Tokenizer], multiple: int, width: int
) -> None:
    batch = make(multiple).documents(["the cat"])
    assert batch.input_ids.shape == (1, width)
    assert batch.embedding_mask.sum() == 3


def test_no_tokens_and_no_texts(make: Callable[..., Tokenizer]) -> None:
    tokenizer = make(query=TextRules("", length=4))
    assert rows(tokenizer.queries([""])) == [[[PAD]], [[0]], [[0]]]
    assert tokenizer.queries([]).input_ids.shape == (0, 1)


def test_truncation_side(make: Callable[..., Tokenizer]) -> None:
    batch = make(truncation_side="left", query=TextRules("", length=2)).queries(["the cat sat"])
    assert batch.input_ids.tolist() == [[CAT, SAT]]


def test_threads_share_a_tokenizer(make: Callable[..., Tokenizer]) -> None:
    tokenizer = make(expansion=Expansion("fixed", 4, MASK, attend=False))
    expected = (rows(tokenizer.queries(["cat sat"])), rows(tokenizer.documents(["the cat sat . ."])))

    def both(_: int) -> tuple[list[list[list[int]]], list[list[list[int]]]]:
        return rows(tokenizer.queries(["cat sat"])), rows(tokenizer.documents(["the cat sat . ."]))

    with ThreadPoolExecutor(8) as pool:
        assert all(got == expected for got in pool.map(both, range(400)))


def test_bad_arguments_are_named(make: Callable[..., Tokenizer]) -> None:
    with pytest.raises(TypeError, match="texts: the one text 'the cat', expected a sequence of texts"):
        make().queries("the cat")
    with pytest.raises(ValueError, match="pad_to_multiple_of: 0, expected at least 1"):
        make(0)
