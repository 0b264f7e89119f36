"""Served tokenisation against Sentence Transformers': ids and masks, equal in every element."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import checkpoints
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from tridex.encoding import TokenBatch, Tokenizer
from tridex.export.checkpoint import rules_of, tokenizer_of

PIECES = st.sampled_from(
    [
        "the ",
        "late interaction",
        "[MASK]",
        "[Q] ",
        "[unused1]",
        "[SEP]",
        "##ing",
        "?!",
        ", ",
        "\n\t",
        "東京",
        "é",
        "🙂",
        "ﬃ",
    ]
)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.lists(PIECES, max_size=60).map("".join),
    st.sampled_from(["", " ", "a", "...", "word " * 200]),
)


def expected_tokens(model: MultiVectorEncoder, task: str, texts: list[str]) -> TokenBatch:
    features = model.preprocess(texts, prompt=model.prompts[task], task=task)
    attention_mask = features["attention_mask"].clone()
    for module in model:
        if isinstance(module, MultiVectorMask):
            features = module(features, task=task)
    tensors = (features["input_ids"], attention_mask, features["attention_mask"])
    return TokenBatch(*(tensor.numpy().astype(np.int64) for tensor in tensors))


@pytest.fixture(scope="module", params=list(checkpoints.VARIANTS))
def model(request: pytest.FixtureRequest, reference: Callable[[str], MultiVectorEncoder]) -> MultiVectorEncoder:
    return reference(request.param)


@pytest.fixture(scope="module")
def tokenizer_for(model: MultiVectorEncoder, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Tokenizer]:
    path: Path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(tokenizer_of(model).to_str(), encoding="utf-8")
    rules = rules_of(model)
    return lambda multiple: Tokenizer(path, rules, pad_to_multiple_of=multiple)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(TEXT, min_size=1, max_size=4), task=st.sampled_from(["query", "document"]))
@example(texts=["a?", "the row, of the row " * 30], task="query")
@example(texts=["a?", "the row, of the row " * 30], task="document")
def test_equal_to_sentence_transformers(
    model: MultiVectorEncoder, tokenizer_for: Callable[[int], Tokenizer], texts: list[str], task: str
) -> None:
    expected = expected_tokens(model, task, texts)
    # Sentence Transformers has no shape for texts that are all without tokens.
    assume(expected.input_ids.shape[1] > 0)
    tokenizer = tokenizer_for(1)
    got = tokenizer.queries(texts) if task == "query" else tokenizer.documents(texts)
    for name in ("input_ids", "attention_mask", "embedding_mask"):
        assert getattr(got, name).dtype == np.int64
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)


def test_rounded_width_adds_padding_only(model: MultiVectorEncoder, tokenizer_for: Callable[[int], Tokenizer]) -> None:
    texts = ["a", "the capital of France", "row by row " * 50]
    widest = max(rules_of(model).query.length, rules_of(model).document.length)
    for task in ("queries", "documents"):
        plain, rounded = (getattr(tokenizer_for(multiple), task)(texts) for multiple in (1, 8))
        width = plain.input_ids.shape[1]
        assert rounded.input_ids.shape[1] in (-(-width // 8) * 8, widest)
        for name in ("input_ids", "attention_mask", "embedding_mask"):
            np.testing.assert_array_equal(getattr(rounded, name)[:, :width], getattr(plain, name))
        assert not rounded.attention_mask[:, width:].any()
        assert not rounded.embedding_mask[:, width:].any()
        assert (rounded.input_ids[:, width:] == model.tokenizer.pad_token_id).all()
