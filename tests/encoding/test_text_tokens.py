"""Tokens and the places in the text that they stand for, in any script, whole, cut or in windows."""

from __future__ import annotations

import unicodedata
from itertools import chain, pairwise

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from tridex.encoding import DocumentReading, EncodingRules, Expansion, TextRules, TextToken, Tokenizer

GRAPHEMES = ["a", "b", "B", "é", "e\u0301", "o\u0302\u0323", "İ", "ß", "ﬁ", "日", "本", "カ", "ש", "ל", "م", "हि", "ก็",
             "👍", "👍🏽", "👨\u200d👩\u200d👧", "🇩🇪", "1", ".", "!", "\u202e", "\u00ad"]  # fmt: skip
TEXTS = st.lists(st.sampled_from([*GRAPHEMES, " ", "\n", "\t"]), min_size=1, max_size=60).map("".join)
LETTERS = "abceoiשלم日本カग़हก1.!ß"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[D] "]
LENGTH = 16


def read_as(surface: str) -> str:
    """What BERT's normalizer makes of characters."""
    decomposed = unicodedata.normalize("NFD", surface.lower())
    return "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cf"))


def word_piece() -> tokenizers.Tokenizer:
    pieces = [*SPECIAL, *LETTERS, *(f"##{c}" for c in LETTERS)]
    made = tokenizers.Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def byte_pairs() -> tokenizers.Tokenizer:
    vocabulary = {p: i for i, p in enumerate([*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    made = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return made


def characters() -> tokenizers.Tokenizer:
    """As SentencePiece's: compatibility forms are replaced, and a space is a part of the word behind it."""
    scores = [(p, 0.0) for p in [*SPECIAL, "▁", *LETTERS, "f", "l"]]
    made = tokenizers.Tokenizer(models.Unigram(scores, unk_id=1))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


@pytest.fixture(scope="module", params=[word_piece, byte_pairs, characters], ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    made = request.param()
    made.add_tokens(["[D] "])
    made.add_special_tokens(["[UNK]", "[CLS]", "[SEP]"])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    rules = EncodingRules(
        query=TextRules("", length=8),
        document=TextRules("[D] ", length=LENGTH, skip_token_ids=(made.token_to_id("."),)),
        expansion=Expansion("fixed", 8, token_id=4, attend=True),
        pad_token_id=0,
        truncation_side="right",
        split_special_tokens=False,
        dim=2,
        similarity="maxsim",
    )
    return Tokenizer(path, rules)


def check_places(tokens: list[TextToken], text: str) -> None:
    placed = [token.place for token in tokens if token.place]
    assert all(0 <= start < end <= len(text) for start, end in placed)
    assert all(one[0] <= other[0] for one, other in pairwise(placed)), "in the order of the text"
    assert all((token.start is None) == (token.end is None) for token in tokens)
    assert all(token.is_special == (token.start is None) for token in tokens), "an unknown word is not special"


@given(text=TEXTS, length=st.integers(5, LENGTH), windows=st.booleans())
def test_tokens_are_those_that_are_read(tokenizer: Tokenizer, text: str, length: int, windows: bool) -> None:
    reading = DocumentReading(length, windows)
    batch, _ = tokenizer.read([text], reading)
    rows = tokenizer.document_tokens(text, reading)
    assert len(rows) == len(batch.input_ids)
    for row, mask, scores in zip(rows, batch.attention_mask, batch.embedding_mask, strict=True):
        assert len(row) == mask.sum() and [token.scores for token in row] == scores[mask != 0].astype(bool).tolist()
        assert [token.token.lower() for token in (*row[:2], row[-1])] == ["[cls]", "[d] ", "[sep]"]
        assert row[0].is_special and row[1].is_special and row[-1].is_special
        check_places(row, text)
    if windows:
        covered = {place for token in chain(*rows) for place in range(token.start or 0, token.end or 0)}
        assert {place for place, c in enumerate(text) if unicodedata.category(c)[0] in "LN"} <= covered


@given(text=TEXTS)
def test_a_word_pieces_place_holds_its_letters(text: str) -> None:
    for token, (start, end) in zip((encoding := word_piece().encode(text)).tokens, encoding.offsets, strict=True):
        if token != "[UNK]":
            assert read_as(text[start:end]) == token.removeprefix("##")


def test_a_special_token_that_is_spelled_out_is_special(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.query_tokens("a[SEP]b")
    assert [token.is_special for token in tokens if token.token == "[SEP]" and token.place == (1, 6)] == [True]


@given(text=TEXTS)
def test_a_query_is_expanded_by_tokens_of_no_place(tokenizer: Tokenizer, text: str) -> None:
    tokens = tokenizer.query_tokens(text)
    batch = tokenizer.queries([text])
    assert len(tokens) == 8 == batch.embedding_mask[0].sum()
    check_places(tokens, text)
    read = tokens[: tokens.index(next(token for token in tokens if token.token == "[SEP]")) + 1]
    assert all(token == TextToken("[MASK]", None, None, True, True) for token in tokens[len(read) :])
