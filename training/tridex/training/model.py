"""What is trained: a ColBERT checkpoint or a plain encoder, and which of its weights."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense

from tridex.export import (
    BUILT_IN,
    CheckpointError,
    UnknownFormatError,
    colbert_from_encoder,
    find_source,
    write_default_checkpoint,
)

_LORA_RANK = 16


class Tuning(str, Enum):
    """The weights that training changes."""

    FULL = "full"
    LORA = "lora"
    """Low-rank changes to the backbone's linear layers (Hu et al. 2021), merged into it at the end, and all of the
    projection."""
    PROJECTION = "projection"


def load_model(model: str) -> MultiVectorEncoder:
    """Loads a ColBERT checkpoint of any format that the export reads, or a plain encoder with a new projection to 128
    dimensions.

    Args:
        model: A folder, a Hub id, or `default` or `untrained`, which need no download.

    Raises:
        tridex.export.CheckpointError: It cannot be loaded.
    """
    if model in BUILT_IN:
        with tempfile.TemporaryDirectory() as folder:
            return MultiVectorEncoder(str(write_default_checkpoint(Path(folder), model)), device=_device())
    try:
        source = find_source(model)
    except UnknownFormatError:
        return colbert_from_encoder(model)
    return MultiVectorEncoder(str(source.folder), device=_device())


def prepare(model: MultiVectorEncoder, tuning: Tuning) -> None:
    """Freezes what is not trained, in place; `finish` undoes what the export could not read.

    Raises:
        tridex.export.CheckpointError: Only the projection is to be trained, and the checkpoint has none.
    """
    transformer = _transformer(model)
    if tuning is Tuning.LORA:
        config = LoraConfig(r=_LORA_RANK, lora_alpha=2 * _LORA_RANK, target_modules="all-linear")
        transformer.model = get_peft_model(transformer.model, config)
    elif tuning is Tuning.PROJECTION:
        if not projected(model):
            raise CheckpointError("the checkpoint has no projection that could be trained alone: tune full or lora")
        transformer.requires_grad_(False)


def finish(model: MultiVectorEncoder) -> None:
    """Merges low-rank changes into the weights, in place."""
    transformer = _transformer(model)
    if isinstance(transformer.model, PeftModel):
        transformer.model = transformer.model.merge_and_unload()


def projected(model: MultiVectorEncoder) -> bool:
    """Whether token embeddings go through a linear layer of their own."""
    return any(isinstance(module, Dense) for module in model)


def _transformer(model: MultiVectorEncoder) -> Any:
    """The Transformer module; its `model` is a PreTrainedModel, or a PeftModel around one."""
    return model[0]


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
