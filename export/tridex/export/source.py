"""Finds a checkpoint and recognises its format by its files, before anything heavy is imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from .errors import CheckpointError, UnknownFormatError


class CheckpointFormat(str, Enum):
    """The three ways in which ColBERT checkpoints are saved. Sentence Transformers 6 loads all of them."""

    STANFORD = "stanford"
    """colbert-ai: backbone and projection in one weight file, settings in artifact.metadata."""
    PYLATE = "pylate"
    """PyLate: Sentence Transformers modules without mask and normalisation, settings at the top level."""
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    """MultiVectorEncoder: every step is a module."""


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk, complete by its file names."""

    folder: Path
    name: str
    """Hub id, or the folder's own name."""
    revision: str | None
    """The Hub's commit; None for a folder."""
    format: CheckpointFormat
    weights: tuple[Path, ...]
    """Relative to `folder`."""


_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
)
_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Settings that PyLate writes at the top level; its early versions wrote no model_type.
_PYLATE_KEYS = {"query_prefix", "document_prefix", "do_query_expansion", "attend_to_expansion_tokens"}
# A repository on the Hub may hold exports for other runtimes, gigabytes of them.
_NOT_NEEDED = ["*.onnx", "*.onnx_data", "onnx/*", "openvino/*", "*.gguf", "*.h5", "*.msgpack", "*.tflite", "*.ot"]


def find_source(model: str, revision: str | None = None) -> Source:
    """The checkpoint in the folder `model`, or the one with that id on the Hugging Face Hub.

    Raises:
        CheckpointError: It is neither, a file is missing, or the format is none of `CheckpointFormat`.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        name, commit = folder.resolve().name, None
    else:
        folder = _download(model, revision)
        # The Hub's cache names a snapshot's folder after its commit.
        name, commit = model, folder.name
    checkpoint_format = _format(folder)
    return Source(folder, name, commit, checkpoint_format, tuple(_complete(folder, checkpoint_format)))


def _download(model: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, ignore_patterns=_NOT_NEEDED))
    # The Hub's client raises OSError when it is offline and ValueError for a malformed id.
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"model: {model!r} is not a folder, and the Hugging Face Hub did not give it ({reason}); expected a "
            "checkpoint's folder, or the id of one on the Hub from where it can be reached"
        ) from error


def _format(folder: Path) -> CheckpointFormat:
    settings = _read_json(folder / "config_sentence_transformers.json", optional=True)
    model_type = settings.get("model_type")
    architectures = _read_json(folder / "config.json", optional=True).get("architectures") or []
    if model_type == "MultiVectorEncoder":
        return CheckpointFormat.SENTENCE_TRANSFORMERS
    if model_type == "ColBERT" or (model_type in (None, "SentenceTransformer") and _PYLATE_KEYS & settings.keys()):
        return CheckpointFormat.PYLATE
    # With a modules.json beside it, Sentence Transformers would follow that and leave the inline projection out.
    if "HF_ColBERT" in architectures and not (folder / "modules.json").exists():
        return CheckpointFormat.STANFORD
    raise UnknownFormatError(
        f"{folder}: not a ColBERT checkpoint (model_type {model_type!r}, architectures {architectures}). Expected "
        "config_sentence_transformers.json with model_type 'MultiVectorEncoder' (Sentence Transformers 6) or 'ColBERT' "
        "(PyLate), or config.json with architecture 'HF_ColBERT' (Stanford)"
    )


def _complete(folder: Path, checkpoint_format: CheckpointFormat) -> Iterator[Path]:
    """The weight files. Raises CheckpointError if any file that the format needs is missing."""
    if checkpoint_format is CheckpointFormat.STANFORD:
        _read_json(folder / "artifact.metadata")
        yield from _backbone(folder, Path())
        return
    modules = [
        (module["type"].rpartition(".")[2], Path(module["path"])) for module in _read_json(folder / "modules.json")
    ]
    kinds = [kind for kind, _ in modules]
    needed = (
        ["Transformer"] if checkpoint_format is CheckpointFormat.SENTENCE_TRANSFORMERS else ["Transformer", "Dense"]
    )
    for kind in needed:
        if kind not in kinds:
            raise CheckpointError(f"{folder / 'modules.json'}: expected a {kind} module, found {kinds}")
    for kind, path in modules:
        if kind == "Transformer":
            yield from _backbone(folder, path)
        elif kind == "Dense":
            yield from _projection(folder, path)


def _backbone(folder: Path, path: Path) -> Iterator[Path]:
    _read_json(folder / path / "config.json")
    _one_of(folder, path, _TOKENIZER_FILES, "tokenizer")
    yield from _weights(folder, path)


def _projection(folder: Path, path: Path) -> Iterator[Path]:
    config = folder / path / "config.json"
    activation = _read_json(config).get("activation_function", "torch.")
    # Sentence Transformers replaces classes that it does not trust by Tanh, with only a warning.
    if not activation.startswith("torch."):
        raise CheckpointError(f"{config}: activation_function {activation!r}, expected a class of torch")
    yield from _weights(folder, path)


def _weights(folder: Path, path: Path) -> Iterator[Path]:
    file = _one_of(folder, path, _WEIGHT_FILES, "weight")
    if file.suffix != ".json":
        yield file
        return
    for shard in sorted(set(_read_json(folder / file)["weight_map"].values())):
        yield _one_of(folder, path, (shard,), "weight")


def _one_of(folder: Path, path: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (folder / path / name).is_file():
            return path / name
    raise CheckpointError(f"{folder / path}: the {what} file is missing, expected {' or '.join(names)}")


def _read_json(path: Path, optional: bool = False) -> Any:
    if not path.is_file():
        if optional:
            return {}
        raise CheckpointError(f"{path} is missing")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
