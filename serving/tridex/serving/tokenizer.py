"""Text to tokens, by the exported checkpoint's rules."""

from __future__ import annotations

from collections.abc import Sequence

from tridex.encoding import TokenBatch, latest_version_dir, load_artifact
from tridex.protocol import models

from . import arguments
from .service import Arrays, Context, Request, Result, each


class TokenizerService:
    """QUERY or DOCUMENT, [batch, 1] text, to INPUT_IDS, ATTENTION_MASK and EMBEDDING_MASK, [batch, tokens] each."""

    def __init__(self, context: Context) -> None:
        self._tokenizer = load_artifact(latest_version_dir(context.repository / models.ENCODER.name)).tokenizer()
        self._tokenizer.queries(["warm up"])

    def answer(self, requests: Sequence[Request]) -> list[Result]:
        return each(requests, self._answer_one)

    def close(self) -> None:
        pass

    def _answer_one(self, request: Request) -> Arrays:
        # A tokenizer runs at tens of microseconds a text: tokenising the batch as one would save nothing, and would
        # pad every request to the longest of its batch mates.
        if request.get(models.QUERY) is not None:
            return token_tensors(self._tokenizer.queries(arguments.texts(request, models.QUERY)))
        return token_tensors(self._tokenizer.documents(arguments.texts(request, models.DOCUMENT)))


def token_tensors(batch: TokenBatch) -> Arrays:
    """The encoder's inputs."""
    return {
        models.INPUT_IDS.name: batch.input_ids,
        models.ATTENTION_MASK.name: batch.attention_mask,
        models.EMBEDDING_MASK.name: batch.embedding_mask,
    }
