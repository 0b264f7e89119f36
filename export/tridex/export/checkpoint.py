"""Loads a checkpoint with Sentence Transformers and derives from it how texts are tokenised and scored."""

from __future__ import annotations

from typing import Any, cast

import tokenizers
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from tridex.encoding import EncodingRules, Expansion, TextRules

from .errors import CheckpointError, refusal
from .limits import check_limits
from .source import Source

# What `encode_query` and `encode_document` look up in the model's prompts, first match wins.
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
# Hugging Face tokenizers say "no limit" with a number like 1e30.
_NO_LIMIT = 10**20


def load_checkpoint(source: Source) -> MultiVectorEncoder:
    """Loads the checkpoint on the CPU in float32, whatever precision it was saved in.

    Raises:
        CheckpointError: Sentence Transformers cannot load it, or the served encoder cannot reproduce it.
    """
    try:
        model = MultiVectorEncoder(
            str(source.folder), device="cpu", local_files_only=True, model_kwargs={"dtype": torch.float32}
        )
    # Malformed files can make the loader raise anything.
    except Exception as error:
        raise CheckpointError(f"{source.name}: Sentence Transformers cannot load it: {error}") from error
    model = model.float().eval()
    _check_backbone(backbone_of(model))
    _check_head(model)
    return model


def backbone_of(model: MultiVectorEncoder) -> Transformer:
    """The module that turns tokens into contextual embeddings."""
    if not isinstance(backbone := model[0], Transformer):
        raise refusal("the first module", type(backbone).__name__, "Transformer")
    # A decorator hides the class from the type checker.
    return cast(Transformer, backbone)


def describe_head(model: MultiVectorEncoder) -> tuple[str, ...]:
    """The modules after the backbone, in order: together with the weights they define what is computed."""
    return tuple(_describe(module) for module in list(model)[1:] if not isinstance(module, MultiVectorMask))


def tokenizer_of(model: MultiVectorEncoder) -> tokenizers.Tokenizer:
    """The loaded model's tokenizer, with the markers that Sentence Transformers registers."""
    tokenizer = tokenizers.Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def rules_of(model: MultiVectorEncoder) -> EncodingRules:
    """The rules by which `encode_query`, `encode_document` and `similarity` of the model work.

    Raises:
        CheckpointError: They allow more than the backbone has room for.
    """
    backbone, tokenizer = backbone_of(model), model.tokenizer
    expansion = _expansion(backbone)
    query_length = backbone.query_length
    if expansion and expansion.strategy == "fixed":
        query_length = expansion.length
    elif expansion and query_length is not None:
        query_length = max(query_length, expansion.length)
    rules = EncodingRules(
        query=_text_rules(model, "query", _QUERY_PROMPTS, query_length),
        document=_text_rules(model, "document", _DOCUMENT_PROMPTS, backbone.document_length),
        expansion=expansion,
        pad_token_id=tokenizer.pad_token_id,
        truncation_side=tokenizer.truncation_side,
        split_special_tokens=tokenizer.split_special_tokens,
        dim=int(model.get_embedding_dimension() or 0),
        similarity=model.similarity_fn_name,
    )
    check_limits(backbone, tokenizer_of(model), rules)
    return rules


def _text_rules(model: MultiVectorEncoder, task: str, prompts: tuple[str, ...], length: int | None) -> TextRules:
    prefix = _prefix(model, prompts)
    length = int(model.tokenizer.model_max_length) if length is None else length
    if length >= _NO_LIMIT:
        raise refusal(
            f"{task}_length", "none", "a number of tokens: the backbone and the tokenizer have no limit either"
        )
    mask = next((module for module in model if isinstance(module, MultiVectorMask)), None)
    if mask is None:
        return TextRules(prefix, length)
    size = 1 + max(model.tokenizer.get_vocab().values())
    if unknown := [i for i in mask.keep_only_token_ids or () if not 0 <= i < size]:
        raise refusal("keep_only_token_ids", unknown, f"the tokenizer's ids, 0 to {size - 1}")
    # The module itself tells which tokens score: it is asked about the whole vocabulary.
    every_id = torch.arange(size)[None]
    features = mask({"input_ids": every_id, "attention_mask": torch.ones_like(every_id)}, task=task)
    scores = features["attention_mask"][0].bool()
    if not scores.any():
        raise refusal(f"tokens of a {task} that score", "none", "some: see skiplist_words and keep_only_token_ids")
    if task != "query" and mask.keep_only_token_ids:
        return TextRules(prefix, length, only_token_ids=tuple(scores.nonzero()[:, 0].tolist()))
    return TextRules(prefix, length, skip_token_ids=tuple((~scores).nonzero()[:, 0].tolist()))


def _prefix(model: MultiVectorEncoder, prompts: tuple[str, ...]) -> str:
    for name in prompts:
        if name in model.prompts:
            return model.prompts[name] or ""
    return model.prompts.get(model.default_prompt_name or "") or ""


def _expansion(backbone: Transformer) -> Expansion | None:
    config = backbone.query_expansion
    if config is None:
        return None
    tokenizer: Any = backbone.tokenizer
    if token := config["token"]:
        token_id = tokenizer.convert_tokens_to_ids(token)
    else:
        token_id = tokenizer.eos_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    return Expansion(config["strategy"], config["length"], token_id, config["attend"])


def _check_backbone(backbone: Transformer) -> None:
    """Raises CheckpointError for what the rules cannot express."""
    if "text" not in backbone.modality_config or "message" in backbone.modality_config:
        raise refusal("modality_config", list(backbone.modality_config), "text without a chat template")
    if backbone.processing_kwargs:
        raise refusal("processing_kwargs", backbone.processing_kwargs, "none: they change how texts are tokenised")
    tokenizer: Any = backbone.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise refusal("the tokenizer", type(tokenizer).__name__, "one that the tokenizers library runs")
    if tokenizer.pad_token_id is None or tokenizer.padding_side != "right":
        raise refusal("padding", f"{tokenizer.pad_token!r} on the {tokenizer.padding_side}", "a token on the right")


def _check_head(model: MultiVectorEncoder) -> None:
    """Raises CheckpointError for modules that the graph does not hold."""
    head = list(model)[1:]
    for module in head:
        if not isinstance(module, (Dense, MultiVectorMask, Normalize)):
            raise refusal("a module", type(module).__name__, "Dense, MultiVectorMask or Normalize")
        if not isinstance(module, MultiVectorMask):
            names = {module.module_input_name, module.module_output_name}
            if names != {"token_embeddings"}:
                raise refusal(f"{type(module).__name__}'s input and output", names, "token_embeddings")
    masks = sum(isinstance(module, MultiVectorMask) for module in head)
    if masks > 1 or (masks == 0 and backbone_of(model).query_expansion):
        raise refusal("MultiVectorMask modules", masks, "one; none only without query expansion")


def _describe(module: torch.nn.Module) -> str:
    if not isinstance(module, Dense):
        return type(module).__name__
    return (
        f"Dense({module.in_features}, {module.out_features}, bias={module.bias}, "
        f"activation={module.activation_function}, residual={module.use_residual})"
    )
