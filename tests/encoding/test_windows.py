"""Long documents in windows: nothing is lost, and every window reads like a document."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, processors

from tridex.encoding import DocumentReading, EncodingRules, TextRules, Tokenizer

WORDS = ["[PAD]", "[CLS]", "[SEP]", "passage", ":", *map(chr, range(ord("a"), ord("z") + 1))]
CLS, SEP, PASSAGE, COLON = 1, 2, 3, 4
LENGTH = 20
RULES = EncodingRules(
    query=TextRules("", length=8),
    document=TextRules("passage: ", length=LENGTH),
    expansion=None,
    pad_token_id=0,
    truncation_side="right",
    split_special_tokens=False,
    dim=2,
    similarity="maxsim",
)
TEXTS = st.lists(st.lists(st.sampled_from(WORDS[3:]), max_size=90).map(" ".join), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = tokenizers.Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[PAD]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def read(tokenizer: Tokenizer, texts: list[str], reading: DocumentReading) -> list[list[list[int]]]:
    """The tokens of each text's windows."""
    batch, of_text = tokenizer.read(texts, reading)
    assert (np.diff(of_text) >= 0).all()
    windows: list[list[list[int]]] = [[] for _ in texts]
    for row, mask, text in zip(batch.input_ids, batch.attention_mask, of_text, strict=True):
        windows[text].append(row[mask != 0].tolist())
    return windows


@given(texts=TEXTS, length=st.integers(5, LENGTH))
def test_windows_hold_every_token_and_share_an_eighth(path: Path, texts: list[str], length: int) -> None:
    tokenizer = Tokenizer(path, RULES)
    shared = (length - 4) // 8
    for text, windows in zip(texts, read(tokenizer, texts, DocumentReading(length, windows=True)), strict=True):
        bodies = []
        for window in windows:
            assert window[:3] == [CLS, PASSAGE, COLON] and window[-1] == SEP and len(window) <= length
            bodies.append(window[3:-1])
        assert all(len(body) == length - 4 for body in bodies[:-1])
        assert all(one[len(one) - shared :] == after[:shared] for one, after in pairwise(bodies))
        told = [bodies[0], *(body[shared:] for body in bodies[1:])]
        assert [WORDS[token] for body in told for token in body] == text.split()
        assert all(len(body) > shared for body in bodies[1:]), "no window repeats what another says"


@given(texts=TEXTS)
def test_the_first_window_and_the_cut_text_are_what_the_checkpoint_reads(path: Path, texts: list[str]) -> None:
    tokenizer = Tokenizer(path, RULES)
    cut, _ = tokenizer.read(texts, DocumentReading(LENGTH, windows=False))
    np.testing.assert_array_equal(cut.input_ids, tokenizer.documents(texts).input_ids)
    assert [windows[:1] for windows in read(tokenizer, texts, DocumentReading(LENGTH, windows=True))] == read(
        tokenizer, texts, DocumentReading(LENGTH, windows=False)
    )


@given(texts=TEXTS, length=st.integers(5, LENGTH), side=st.sampled_from(["left", "right"]))
def test_a_shorter_cut_keeps_the_prefix_and_the_checkpoints_side(
    path: Path, texts: list[str], length: int, side: str
) -> None:
    tokenizer = Tokenizer(path, replace(RULES, truncation_side=side))  # type: ignore[arg-type]
    reading = DocumentReading(min(length, LENGTH - 1), windows=False)
    for text, (row,) in zip(texts, read(tokenizer, texts, reading), strict=True):
        room = reading.length - 4
        words = text.split()[:room] if side == "right" else text.split()[-room:]
        assert [WORDS[token] for token in row] == ["[CLS]", "passage", ":", *words, "[SEP]"]


@pytest.mark.parametrize("length", [0, 4, LENGTH + 1])
def test_a_length_that_no_text_fits_in_is_refused(path: Path, length: int) -> None:
    with pytest.raises(ValueError, match=f"document_length is {length}; expected 5 to {LENGTH}"):
        Tokenizer(path, RULES).read(["a"], DocumentReading(length, windows=True))
