"""A checkpoint's limits are found when it is read. The oracle: Sentence Transformers on a text of that many tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import (
    DIM,
    FAMILIES,
    HIDDEN,
    bert,
    family,
    normalise,
    projection,
    sentence_transformers,
    word_piece,
)
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from tokenizers import Tokenizer, processors
from transformers import BertModel

from tridex.encoding import create_encoder
from tridex.export import CheckpointError, export_checkpoint
from tridex.export.checkpoint import load_checkpoint, rules_of
from tridex.export.source import find_source

POSITIONS = 24
PAD_SECOND = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", "[unused0]", "[unused1]"]
"""As RoBERTa and its kin have it: positions count on from the pad token's id, 1."""

ROOM = dict.fromkeys(FAMILIES, POSITIONS) | dict.fromkeys(
    ("roberta", "xlm-roberta", "camembert", "mpnet"), POSITIONS - 2
)
TABLES = FAMILIES.keys() - {"deberta-v2", "modernbert"}
"""Backbones with a table of positions: more tokens than it has rows are an error within them."""


def saved(folder: Path, tokenizer: Tokenizer, backbone: Callable[[int], Any], **options: Any) -> Path:
    torch.manual_seed(0)
    head = options.pop("head", [projection(HIDDEN, DIM), MultiVectorMask(), normalise()])
    sentence_transformers(folder, tokenizer, backbone, head, **options)
    return folder


def of_family(folder: Path, model_type: str, **options: Any) -> Path:
    tokenizer = word_piece(PAD_SECOND)
    return saved(folder, tokenizer, lambda size: family(model_type, size, 1, POSITIONS), **options)


def read(folder: Path) -> MultiVectorEncoder:
    model = load_checkpoint(find_source(str(folder)))
    rules_of(model)
    return model


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_position_is_used_and_none_that_is_not_there(tmp_path: Path, model_type: str) -> None:
    room = ROOM[model_type]
    model = read(of_family(tmp_path / "full", model_type, document_length=room, query_length=room))
    longest = " ".join("a" * (2 * POSITIONS))
    assert model.encode_document(longest).shape == (room, DIM)

    for task in ("query", "document"):
        lengths = {"query_length": room, "document_length": room, f"{task}_length": room + 1}
        folder = of_family(tmp_path / task, model_type, **lengths)
        model = load_checkpoint(find_source(str(folder)))
        if model_type in TABLES:
            with pytest.raises((IndexError, RuntimeError)):
                getattr(model, f"encode_{task}")(longest)
        message = rf"{task}_length: {room + 1}, expected at most {room}, .* \(max_position_embeddings {POSITIONS}\)"
        with pytest.raises(CheckpointError, match=message):
            rules_of(model)


def test_an_export_reads_texts_up_to_its_last_position(tmp_path: Path) -> None:
    """Padding and query expansion too."""
    room = ROOM["xlm-roberta"]
    expansion = {"strategy": "fixed", "length": room, "attend": False}
    folder = of_family(tmp_path / "full", "xlm-roberta", document_length=room, query_expansion=expansion)
    artifact = export_checkpoint(str(folder), repository=tmp_path / "repository")
    tokenizer, encoder = artifact.tokenizer(), create_encoder(artifact)
    texts = ["a", " ".join("abcdefghijklmnopqrstuvwxyz")]
    model = MultiVectorEncoder(str(folder), device="cpu")
    for batch, expected in (
        (tokenizer.documents(texts), model.encode_document(texts)),
        (tokenizer.queries(texts), model.encode_query(texts)),
    ):
        assert batch.input_ids.shape == (2, room)
        for embeddings, mask, own in zip(encoder.encode(batch), batch.embedding_mask, expected, strict=True):
            np.testing.assert_allclose(embeddings[mask == 1], own, rtol=0, atol=1e-5)


def test_expansion_beyond_the_positions_is_refused(tmp_path: Path) -> None:
    expansion = {"strategy": "min", "length": 23, "attend": True}
    folder = of_family(tmp_path / "min", "roberta", document_length=20, query_length=24, query_expansion=expansion)
    with pytest.raises(CheckpointError, match="query_length: 24, expected at most 22"):
        read(folder)


def test_lengths_that_nothing_limits_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "c", word_piece(), lambda size: family("modernbert", size, 0, 10**9))
    model = load_checkpoint(find_source(str(folder)))
    model.tokenizer.model_max_length = 10**30
    with pytest.raises(CheckpointError, match="query_length: none, expected a number"):
        rules_of(model)


def smaller(by: int) -> Callable[[int], BertModel]:
    """A BERT with fewer embeddings than the tokenizer has tokens."""
    return lambda size: bert(size - by)


def test_tokens_beyond_the_embedding_matrix_are_named(tmp_path: Path) -> None:
    tokenizer = word_piece()
    size = tokenizer.get_vocab_size()
    last = [tokenizer.id_to_token(size - 2), tokenizer.id_to_token(size - 1)]
    with pytest.raises(
        CheckpointError,
        match=rf"tokenizer: '{last[0]}' {size - 2}, '{last[1]}' {size - 1}, expected ids below {size - 2}, the rows",
    ):
        read(saved(tmp_path / "two", tokenizer, smaller(2)))
    with pytest.raises(CheckpointError, match=r" and 4 more, expected ids below"):
        read(saved(tmp_path / "nine", tokenizer, smaller(9)))


@pytest.mark.parametrize("marker", ["[Q] ", "[MASK]"], ids=["a prefix", "the expansion token"])
def test_a_marker_beyond_the_embedding_matrix_is_named(tmp_path: Path, marker: str) -> None:
    """What is added to a tokenizer and forgotten in the model was an IndexError at the first query."""
    tokenizer = word_piece([token for token in PAD_SECOND if token != marker])
    tokenizer.add_special_tokens([marker])
    expansion = {"strategy": "fixed", "length": 12, "attend": False, "token": marker}
    folder = saved(
        tmp_path / "c", tokenizer, smaller(1), prompts={"query": marker, "document": ""}, query_expansion=expansion
    )
    with pytest.raises((IndexError, RuntimeError)):
        load_checkpoint(find_source(str(folder))).encode_query("a")
    size = tokenizer.get_vocab_size()
    message = rf"tokenizer: '{re.escape(marker)}' {size - 1}, expected ids below {size - 1}, the rows"
    with pytest.raises(CheckpointError, match=message):
        read(folder)


def test_lengths_without_room_for_a_text_are_refused(tmp_path: Path) -> None:
    prompts = {"query": "", "document": "the row: "}
    message = r"document_length: 5, expected more than 5, the tokens of the prefix 'the row: ' and the special tokens"
    with pytest.raises(CheckpointError, match=message):
        read(saved(tmp_path / "c", word_piece(), bert, prompts=prompts, document_length=5))
    read(saved(tmp_path / "d", word_piece(), bert, prompts=prompts, document_length=6))


def test_other_token_types_are_refused(tmp_path: Path) -> None:
    tokenizer = word_piece()
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS]:0 $A:1 [SEP]:1", special_tokens=ids)
    folder = saved(tmp_path / "c", tokenizer, bert)
    read(folder)  # As it is: this tokenizer gives the backbone no types.
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"token types of a query: \[0, 1, 1\], expected 0 for every token"):
        read(folder)


def test_a_backbone_without_token_types_is_refused(tmp_path: Path) -> None:
    def without_types(size: int) -> Any:
        model = bert(size)
        model.config.type_vocab_size = 0
        return BertModel(model.config)

    with pytest.raises(CheckpointError, match=r"the backbone's embeddings of one token: .* is a size in its config 0"):
        read(saved(tmp_path / "c", word_piece(), without_types))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            {"keep_only_token_ids": [8, 5000, -1]},
            r"keep_only_token_ids: \[5000, -1\], expected the tokenizer's ids, 0 to",
        ),
        (
            {"keep_only_token_ids": [10], "skiplist_words": ["d"]},
            "tokens of a document that score: none, expected some",
        ),
    ],
)
def test_tokens_that_score_are_the_tokenizers(tmp_path: Path, mask: dict[str, Any], message: str) -> None:
    assert word_piece().token_to_id("d") == 10
    head = [projection(HIDDEN, DIM), MultiVectorMask(**mask), normalise()]
    with pytest.raises(CheckpointError, match=message):
        read(saved(tmp_path / "c", word_piece(), bert, head=head))
