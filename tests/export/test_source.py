"""Which checkpoints are accepted, and how the others are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import DIM, HIDDEN, bert, normalise, projection, sentence_transformers, word_piece
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

from tridex.export import CheckpointError, ParityError, export_checkpoint
from tridex.export.checkpoint import load_checkpoint, rules_of
from tridex.export.source import CheckpointFormat, find_source

Checkpoint = Callable[[str], Path]


@pytest.fixture
def copy(checkpoint: Checkpoint, tmp_path: Path) -> Checkpoint:
    """A checkpoint that a test may break."""
    return lambda variant: Path(shutil.copytree(checkpoint(variant), tmp_path / variant))


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("variant", "expected", "weights"),
    [
        ("stanford_attended", CheckpointFormat.STANFORD, {"model.safetensors"}),
        (
            "pylate_early",
            CheckpointFormat.PYLATE,
            {"model.safetensors", "1_Dense/model.safetensors", "2_Dense/model.safetensors"},
        ),
        (
            "native_attended",
            CheckpointFormat.SENTENCE_TRANSFORMERS,
            {"model.safetensors", "1_Dense/model.safetensors", "3_Dense/model.safetensors"},
        ),
    ],
)
def test_format_and_weights(
    checkpoint: Checkpoint, variant: str, expected: CheckpointFormat, weights: set[str]
) -> None:
    source = find_source(str(checkpoint(variant)))
    assert (source.format, source.name, source.revision) == (expected, variant, None)
    assert {path.as_posix() for path in source.weights} == weights


@pytest.mark.parametrize(
    ("variant", "missing", "named"),
    [
        ("stanford_attended", "artifact.metadata", "artifact.metadata is missing"),
        ("stanford_attended", "model.safetensors", "weight file is missing, expected model.safetensors or"),
        ("stanford_attended", "tokenizer.json", "tokenizer file is missing"),
        ("pylate_early", "2_Dense/model.safetensors", "2_Dense: the weight file is missing"),
        ("pylate_early", "modules.json", "modules.json is missing"),
        ("native_attended", "1_Dense/config.json", "1_Dense/config.json is missing"),
        ("native_attended", "config.json", "config.json is missing"),
    ],
)
def test_a_missing_file_is_named(copy: Checkpoint, variant: str, missing: str, named: str) -> None:
    folder = copy(variant)
    (folder / missing).unlink()
    with pytest.raises(CheckpointError, match=named):
        find_source(str(folder))


def test_formats_that_are_not_colbert(copy: Checkpoint, tmp_path: Path) -> None:
    folder = copy("native_plain")
    edit_json(folder / "config_sentence_transformers.json", model_type="SentenceTransformer")
    with pytest.raises(
        CheckpointError, match=r"not a ColBERT checkpoint \(model_type 'SentenceTransformer'.*HF_ColBERT"
    ):
        find_source(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: not a ColBERT checkpoint"):
        find_source(str(tmp_path / "empty"))


def test_broken_json_is_named(copy: Checkpoint) -> None:
    folder = copy("stanford_attended")
    (folder / "artifact.metadata").write_text("{")
    with pytest.raises(CheckpointError, match=r"artifact.metadata is not JSON"):
        find_source(str(folder))


def test_neither_folder_nor_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"model: 'no-such/checkpoint' is not a folder, and the Hugging Face Hub"):
        find_source("no-such/checkpoint")
    with pytest.raises(CheckpointError, match=r"model: './no/such/folder' is not a folder"):
        find_source("./no/such/folder")


def test_hub_id(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's own cache stands in for the Hub: its client takes what it has."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--org--colbert"
    shutil.copytree(checkpoint("stanford_attended"), cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = find_source("org/colbert")
    assert (source.name, source.revision, source.format) == ("org/colbert", commit, CheckpointFormat.STANFORD)
    assert find_source("org/colbert", revision=commit) == source
    with pytest.raises(CheckpointError, match="'org/colbert' is not a folder"):
        find_source("org/colbert", revision="v2")


def test_activation_that_would_be_replaced(copy: Checkpoint) -> None:
    folder = copy("pylate_early")
    edit_json(folder / "1_Dense" / "config.json", activation_function="mine.Swish")
    with pytest.raises(CheckpointError, match=r"1_Dense/config.json: activation_function 'mine.Swish'"):
        find_source(str(folder))


def test_a_weight_that_is_missing_fails_the_gate(copy: Checkpoint, tmp_path: Path) -> None:
    """Loaders fill it with random numbers and no more than a warning."""
    folder = copy("stanford_attended")
    weights = load_file(folder / "model.safetensors")
    del weights["bert.encoder.layer.0.attention.self.query.weight"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ParityError):
        export_checkpoint(str(folder), repository=tmp_path / "repository")


def test_broken_weights(copy: Checkpoint) -> None:
    folder = copy("stanford_attended")
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match="stanford_attended: Sentence Transformers cannot load it"):
        load_checkpoint(find_source(str(folder)))


def test_half_precision_checkpoints_are_read_as_float32(copy: Checkpoint) -> None:
    folder = copy("stanford_attended")
    weights = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    edit_json(folder / "config.json", dtype="bfloat16")
    model = load_checkpoint(find_source(str(folder)))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def saved(folder: Path, **options: Any) -> Path:
    head = [projection(HIDDEN, DIM), normalise()]
    sentence_transformers(folder, word_piece(), bert, **{"head": head, **options})
    return folder


def test_what_cannot_be_served_is_refused(tmp_path: Path) -> None:
    head = [projection(HIDDEN, DIM), HierarchicalTokenPooling(pool_factor=2), normalise()]
    with pytest.raises(CheckpointError, match="a module: HierarchicalTokenPooling, expected Dense"):
        load_checkpoint(find_source(str(saved(tmp_path / "pooling", head=head))))
    expansion = {"strategy": "fixed", "length": 8}
    with pytest.raises(CheckpointError, match="MultiVectorMask modules: 0, expected one"):
        load_checkpoint(find_source(str(saved(tmp_path / "no-mask", query_expansion=expansion))))
    with pytest.raises(CheckpointError, match=r"document_length: 65, expected at most 64, .*embeddings 64\)"):
        rules_of(load_checkpoint(find_source(str(saved(tmp_path / "long", document_length=65)))))
    with pytest.raises(CheckpointError, match=r"processing_kwargs: \{'text': \{'max_length': 9\}\}, expected none"):
        overrides = {"text": {"max_length": 9}}
        load_checkpoint(find_source(str(saved(tmp_path / "overrides", processing_kwargs=overrides))))


def test_left_padding_is_refused(copy: Checkpoint) -> None:
    folder = copy("native_plain")
    edit_json(folder / "tokenizer_config.json", padding_side="left")
    with pytest.raises(CheckpointError, match=r"padding: '\[PAD\]' on the left"):
        load_checkpoint(find_source(str(folder)))


def test_rules_follow_the_loaded_model(reference: Callable[[str], MultiVectorEncoder]) -> None:
    rules = rules_of(reference("stanford_unattended"))
    assert (rules.query.prefix, rules.document.prefix) == ("[unused0] ", "[unused1] ")
    assert (rules.query.length, rules.document.length, rules.dim) == (16, 40, DIM)
    assert rules.expansion is not None
    assert (rules.expansion.strategy, rules.expansion.attend) == ("fixed", False)
    assert len(rules.document.skip_token_ids) == 32
    assert rules_of(reference("native_min_expansion")).similarity == "meanmaxsim"
