"""What a checkpoint's backbone has room for: token ids, positions, token types.

Checked before anything is traced: the graph would fail at the first text beyond a limit, with an index and no name.
"""

from __future__ import annotations

from typing import Any

import tokenizers
import torch
from sentence_transformers.base.modules import Transformer

from tridex.encoding import EncodingRules, TextRules

from .errors import refusal

_NAMED = 5
"""Most tokens that a message names."""


def check_limits(backbone: Transformer, tokenizer: tokenizers.Tokenizer, rules: EncodingRules) -> None:
    """Checks that the backbone can read all that the tokenizer and the rules allow.

    Raises:
        CheckpointError: With the limit and what exceeds it.
    """
    model: Any = backbone.model
    inputs: Any = backbone.tokenizer
    words = model.get_input_embeddings()
    _check_tokens(tokenizer.get_vocab(with_added_tokens=True), words.num_embeddings)
    # A token that is not padding: some backbones give padding no position.
    word = next(i for i in range(words.num_embeddings) if i not in (rules.pad_token_id, words.padding_idx))
    positions = getattr(model.config, "max_position_embeddings", None) or 0
    for task, text in (("query", rules.query), ("document", rules.document)):
        _check_frame(task, text, tokenizer)
        if "token_type_ids" in inputs.model_input_names:
            _check_types(task, text, tokenizer)
        room = _longest(model, word, text.length)
        if 0 < positions < room:
            room = positions
        if room < text.length:
            raise refusal(
                f"{task}_length",
                text.length,
                f"at most {room}, the tokens that the backbone has positions for (max_position_embeddings {positions})",
            )


def _check_tokens(vocabulary: dict[str, int], rows: int) -> None:
    beyond = sorted((i, token) for token, i in vocabulary.items() if i >= rows)
    if beyond:
        named = ", ".join(f"{token!r} {i}" for i, token in beyond[:_NAMED])
        more = f" and {len(beyond) - _NAMED} more" if len(beyond) > _NAMED else ""
        raise refusal(
            "token ids of the tokenizer",
            named + more,
            f"ids below {rows}, the rows of the backbone's embedding matrix (vocab_size); resize it to the tokenizer",
        )


def _check_frame(task: str, text: TextRules, tokenizer: tokenizers.Tokenizer) -> None:
    """The prefix and the special tokens must leave room for one token of a text."""
    frame = len(tokenizer.encode(text.prefix).ids)
    if text.length <= frame:
        raise refusal(
            f"{task}_length",
            text.length,
            f"more than {frame}, the tokens of the prefix {text.prefix!r} and the special tokens",
        )


def _check_types(task: str, text: TextRules, tokenizer: tokenizers.Tokenizer) -> None:
    types = tokenizer.encode(text.prefix + "a").type_ids
    if any(types):
        raise refusal(f"token types of a {task}", types, "0 for every token: the graph has no input for them")


def _longest(model: Any, word: int, length: int) -> int:
    """The tokens of the longest text, up to `length`, that the backbone takes."""
    embed = getattr(model, "embeddings", model)
    if isinstance(embed, torch.nn.Embedding):  # of words only, as XLM's
        embed = model

    def error_at(tokens: int) -> Exception | None:
        try:
            with torch.inference_mode():
                embed(input_ids=torch.full((1, tokens), word))
        # Raised for an index beyond a table, and for shapes that do not match.
        except (IndexError, RuntimeError) as error:
            return error
        return None

    if error_at(length) is None:
        return length
    if error := error_at(1):
        raise refusal("the backbone's embeddings of one token", error, "embeddings; is a size in its config 0?")
    low, high = 1, length
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if error_at(middle) else (middle, high)
    return low
