"""The parity gate's messages: every figure that decided, the texts, and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder

from tridex.encoding import EncodingRules, Expansion, TokenBatch, Tokenizer
from tridex.encoding.parity import QUERIES, Parity
from tridex.export import ParityError
from tridex.export.checkpoint import backbone_of, load_checkpoint, rules_of, tokenizer_of
from tridex.export.graph import EncoderGraph
from tridex.export.measure import Measure
from tridex.export.parity import check_parity
from tridex.export.precision import Precision
from tridex.export.source import find_source

QUERY_LENGTHS = (24, 30)
"""Of the checkpoints here, whose longest document is longer: by it a batch is known."""

Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class TorchEncoder:
    """In place of the exported encoder: the checkpoint's own modules, and what a test changes of their embeddings."""

    def __init__(self, model: MultiVectorEncoder, attention: str, change: Change) -> None:
        backbone_of(model).model.set_attn_implementation(attention)
        self._graph, self._change = EncoderGraph(model).eval(), change

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        tensors = map(torch.from_numpy, (batch.input_ids, batch.attention_mask, batch.embedding_mask))
        with torch.inference_mode():
            return self._change(self._graph(*tensors).numpy())

    def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        return [self.encode(batch) for batch in batches]


@pytest.fixture
def gate(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Parity]:
    def check(
        variant: str, precision: Precision, attention: str = "sdpa", change: Change = lambda e: e, **rules: object
    ) -> Parity:
        source = find_source(str(checkpoint(variant)))
        model = load_checkpoint(source)
        own: EncodingRules = replace(rules_of(model), **rules)
        path = tmp_path / "tokenizer.json"
        path.write_text(tokenizer_of(model).to_str(), encoding="utf-8")
        encoder = TorchEncoder(model, attention, change)
        return check_parity(load_checkpoint(source), Tokenizer(path, own), encoder, own, precision)

    return check


def shorter(by: float) -> Change:
    """The tokens of the first document, "Paris.", by a share of their length."""

    def change(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        embeddings = embeddings.copy()
        embeddings[0] *= 1 if embeddings.shape[1] in QUERY_LENGTHS else np.float32(1 - by)
        return embeddings

    return change


def test_what_is_the_same_passes(gate: Callable[..., Parity]) -> None:
    for precision in Precision:
        parity = gate("stanford_attended", precision)
        assert parity.score_error < 1e-5
        assert parity.token_cosine > 0.999999


@pytest.mark.parametrize(
    ("precision", "limit", "share", "advice"),
    [
        (Precision.FP32, 1e-4, 1.2, "Weights that the checkpoint lacks"),
        (Precision.FP16, 1e-2, 1.002, "Export with precision fp32"),
    ],
)
def test_a_score_beyond_its_limit_is_told_apart_from_it(
    gate: Callable[..., Parity], precision: Precision, limit: float, share: float, advice: str
) -> None:
    """Beyond by 0.2 %: with two digits it was "0.01 (at most 0.01)"."""
    of_all = gate("stanford_attended", Precision.INT8, change=shorter(0.01)).score_error
    with pytest.raises(ParityError) as refusal:
        gate("stanford_attended", precision, change=shorter(0.01 * share * limit / of_all))
    message = str(refusal.value)
    shown = re.search(rf"score error (\S+) \(at most {limit:g}\)", message)
    assert shown and limit < float(shown[1]) < 1.3 * limit
    pair = re.search(r"query '(.*)' with document '(.*)': (\S+), where the checkpoint has (\S+);", message)
    assert pair and pair[1] in QUERIES and pair[2] == "Paris."
    assert limit < float(pair[4]) - float(pair[3]) < 1.3 * limit
    assert advice in message
    assert "relative" not in message and "mean token cosine" not in message, "these hold"


def test_int8_names_its_measures(gate: Callable[..., Parity]) -> None:
    with pytest.raises(ParityError, match=r"int8 encoder .* relative score error 0\.\d+ \(at most 0\.1\)\. .*VNNI"):
        gate("stanford_attended", Precision.INT8, change=shorter(0.9))
    message = (
        r"checkpoint: mean token cosine \S+ \(at least 0\.99\)\. .*; least alike are the tokens of '.+', cosine -?0\."
    )
    with pytest.raises(ParityError, match=message):
        gate("stanford_attended", Precision.INT8, change=lambda e: e[:, :, ::-1])


def test_nan_is_beyond_every_limit(gate: Callable[..., Parity]) -> None:
    with pytest.raises(ParityError, match=r"score error nan \(at most 0\.0001\), .*mean token cosine nan \(at least"):
        gate("stanford_attended", Precision.FP32, change=lambda e: e * np.nan)


def test_other_tokens_are_shown_from_the_first_on(gate: Callable[..., Parity]) -> None:
    """Instead of twenty numbers in a row."""
    message = (
        r"input_ids of the query 'late interaction' from token \d+ on: \[(\d+, )*\d+\], Sentence Transformers "
        r"\[4, 4, 4, 4, 4, 4, 4, 4\]; \d+ of 24 differ\. .* tokenizer\.json"
    )
    expansion = Expansion("fixed", 24, token_id=5, attend=True)
    with pytest.raises(ParityError, match=message):
        gate("stanford_attended", Precision.FP32, expansion=expansion)


def test_tokens_that_see_no_key_are_named_as_the_cause(gate: Callable[..., Parity]) -> None:
    assert gate("native_far_expansion", Precision.FP32, "eager_zeros_where_blind").score_error < 1e-4
    message = (
        r"The cause: (\d+) of this query's 30 tokens, query expansion, see no key within 4 \(local_attention 8\): "
        r"attention looks at (\d+) tokens\. .* is loaded with sdpa\. Shorten the expansion, or attend to it"
    )
    for precision in Precision:
        with pytest.raises(ParityError, match=message) as refusal:
            gate("native_far_expansion", precision, "eager")
        numbers = re.search(message, str(refusal.value))
        assert numbers and int(numbers[1]) == 30 - 4 - int(numbers[2])


def test_another_cause_is_not_called_blindness(gate: Callable[..., Parity]) -> None:
    with pytest.raises(ParityError) as refusal:
        gate("native_far_expansion", Precision.FP32, "eager_zeros_where_blind", change=shorter(0.01))
    assert "The cause" not in str(refusal.value)


@given(limit=st.floats(1e-6, 10), excess=st.floats(1e-12, 1e3))
def test_a_figure_is_told_apart_from_its_limit(limit: float, excess: float) -> None:
    value = limit * (1 + excess)
    measure = Measure("error", value, "at most", limit)
    if not measure.holds:
        shown = re.fullmatch(r"error (\S+) \(at most \S+\)", str(measure))
        assert shown and float(shown[1]) > limit
    assert Measure("error", value, "at least", limit).holds
