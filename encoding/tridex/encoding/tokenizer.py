"""Text to tokens and masks, on the Rust tokenizers library. Reproduces Sentence Transformers' MultiVectorEncoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from .rules import DocumentReading, EncodingRules, Expansion, TextRules
from .text_tokens import TextToken, text_tokens

WIDTH_MULTIPLE = 4
"""Texts are as many tokens wide as the next multiple of this: padding is work, and so is each further width that texts
of one call run at. Measured with MiniLM, see docs/decisions/031-one-process-one-context.md."""

_OVERLAP = 8
"""Neighbouring windows share one token in this many, so that a token near a window's edge has a sixteenth of a window
of context on either side in at least one of the two."""


@dataclass(frozen=True)
class TokenBatch:
    """The encoder's inputs, int64 [texts, tokens] each."""

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    """1 where the encoder's attention looks."""
    embedding_mask: NDArray[np.int64]
    """1 where a token's embedding scores."""

    def rows(self, multiple: int = WIDTH_MULTIPLE) -> Iterator[TokenBatch]:
        """Each text by itself, [1, tokens], cut to the smallest multiple of so many tokens that holds it."""
        widths = self.widths(multiple).tolist()
        for row, width in enumerate(widths):
            cut = slice(row, row + 1), slice(width)
            yield TokenBatch(self.input_ids[cut], self.attention_mask[cut], self.embedding_mask[cut])

    def widths(self, multiple: int = WIDTH_MULTIPLE) -> NDArray[np.int64]:
        """int64 [texts]: the smallest multiple of so many tokens that holds each text, the batch's width at most.

        Expansion tokens count, although the attention may not see them.
        """
        used = (self.attention_mask | self.embedding_mask) != 0
        tokens = used.shape[1]
        lengths = np.where(used.any(axis=1), tokens - np.argmax(used[:, ::-1], axis=1), 1)
        widths: NDArray[np.int64] = np.minimum(-(-lengths // multiple) * multiple, tokens)
        return widths


class Tokenizer:
    """Tokenises queries and documents by a checkpoint's rules. Safe to share between threads.

    A batch is as wide as its longest text, rounded up to a multiple of `pad_to_multiple_of` so that a backend meets few
    shapes, but no wider than the checkpoint reads.
    """

    def __init__(self, path: Path, rules: EncodingRules, *, pad_to_multiple_of: int = WIDTH_MULTIPLE) -> None:
        if pad_to_multiple_of < 1:
            raise ValueError(f"pad_to_multiple_of: {pad_to_multiple_of}, expected at least 1")
        self._multiple = pad_to_multiple_of
        self._widest = max(rules.query.length, rules.document.length)
        self._pad_token_id = rules.pad_token_id
        self._query = _Side(path, rules, rules.query, rules.expansion)
        self._document = _Side(path, rules, rules.document, None)

    @property
    def widest(self) -> int:
        """Most tokens of a text."""
        return self._widest

    @property
    def vocabulary(self) -> int:
        """Token ids are below this."""
        return len(self._query.scores)

    def queries(self, texts: Sequence[str]) -> TokenBatch:
        return self._encode(self._query, texts)

    def documents(self, texts: Sequence[str]) -> TokenBatch:
        return self._encode(self._document, texts)

    def read(self, texts: Sequence[str], reading: DocumentReading) -> tuple[TokenBatch, NDArray[np.int64]]:
        """Tokenises documents, long ones in overlapping windows or cut.

        Every window has the checkpoint's prefix and special tokens around its piece of the text's tokens, so that the
        encoder reads it like a document; the first window is what cutting leaves.

        Args:
            texts: The documents.
            reading: Most tokens of a row, and whether longer texts are read in windows.

        Returns:
            The rows, and the index of each row's text: int64 [rows], ascending.

        Raises:
            ValueError: The length leaves no room for a text, or exceeds the checkpoint's own.
        """
        self.check_length(reading.length)
        rows = self._document.windows(texts, reading)
        of_text = np.repeat(np.arange(len(rows)), [len(windows) for windows in rows])
        return self._batch(self._document, [row for windows in rows for row in windows]), of_text

    def query_tokens(self, text: str) -> list[TextToken]:
        """The tokens that `queries` makes of a text, padding left out, with their places in it."""
        side = self._query
        encoding = side.encode(text)
        (tokens,) = side.placed(encoding, [range(len(encoding))], text)
        if side.expansion:
            filler = side.filler
            tokens += [filler] * (side.expansion.length - len(tokens))
        return tokens

    def document_tokens(self, text: str, reading: DocumentReading) -> list[list[TextToken]]:
        """The tokens of each row that `read` makes of a text, with their places in it."""
        return self._document.placed(*self._document.rows(text, reading), text)

    def check_length(self, length: int) -> None:
        """Raises ValueError if documents cannot be read in so many tokens."""
        shortest, longest = self._document.frame + 1, self._document.length
        if not shortest <= length <= longest:
            raise ValueError(f"document_length is {length}; expected {shortest} to {longest}, the checkpoint's own")

    def _encode(self, side: _Side, texts: Sequence[str]) -> TokenBatch:
        if isinstance(texts, str):
            raise TypeError(f"texts: the one text {texts[:40]!r}, expected a sequence of texts")
        return self._batch(side, side.token_ids(texts))

    def _batch(self, side: _Side, rows: Sequence[list[int]]) -> TokenBatch:
        floor = side.expansion.length if side.expansion else 1
        longest = max(floor, *map(len, rows)) if rows else floor
        rounded = -(-longest // self._multiple) * self._multiple
        width = max(longest, min(rounded, self._widest))

        # Few numpy calls: for a single query in a server each costs 20 µs, because its code has left the caches.
        input_ids = np.full((len(rows), width), self._pad_token_id, np.int64)
        attention_mask = scored = np.zeros((len(rows), width), np.int64)
        for row, ids in enumerate(rows):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        if side.expansion:
            filled = attention_mask == 0
            filled[:, floor:] = False
            input_ids[filled] = side.expansion.token_id
            scored = attention_mask | filled
            if side.expansion.attend:
                attention_mask = scored
        return TokenBatch(input_ids, attention_mask, scored & side.scores[input_ids])


class _Side:
    """Tokenises queries, or documents. Each side has its own tokenizer, whose truncation is set once, so that
    tokenising changes no state."""

    def __init__(self, path: Path, rules: EncodingRules, text: TextRules, expansion: Expansion | None) -> None:
        self.expansion = expansion
        self.length = text.length
        self._prefix = text.prefix
        self._truncation_side = rules.truncation_side
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(text.length, strategy="longest_first", direction=rules.truncation_side)
        self._tokenizer.encode_special_tokens = rules.split_special_tokens

        filler = expansion.token_id if expansion else 0
        size = 1 + max(rules.pad_token_id, filler, *self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.scores = np.full(size, int(text.only_token_ids is None))
        """int64 [vocabulary]: 1 where a token's embedding scores."""
        self.scores[list(text.only_token_ids or ())] = 1
        self.scores[list(text.skip_token_ids)] = 0

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        # The fast variant leaves out character offsets, which nothing here reads.
        encodings = self._tokenizer.encode_batch_fast([self._prefix + text for text in texts])
        return [encoding.ids for encoding in encodings]

    def windows(self, texts: Sequence[str], reading: DocumentReading) -> list[list[list[int]]]:
        """Each text's tokens, as one row or as several windows. Texts are tokenised side by side on all cores."""
        rows = [[ids] for ids in self.token_ids(texts)]
        long = [i for i, (ids,) in enumerate(rows) if not self._is_one_row(len(ids), reading)]
        for i, whole in zip(long, self._whole.encode_batch([self._prefix + texts[i] for i in long]), strict=True):
            ids = whole.ids
            rows[i] = [[ids[place] for place in window] for window in self._cut(whole.offsets, reading)]
        return rows

    def encode(self, text: str) -> tokenizers.Encoding:
        """The text as `token_ids` has it, with offsets."""
        return self._tokenizer.encode(self._prefix + text)

    def rows(self, text: str, reading: DocumentReading) -> tuple[tokenizers.Encoding, list[Sequence[int]]]:
        """The text's tokens with offsets, and which of them are in each of its `windows`."""
        encoding = self.encode(text)
        if self._is_one_row(len(encoding), reading):
            return encoding, [range(len(encoding))]
        whole = self._whole.encode(self._prefix + text)
        return whole, self._cut(whole.offsets, reading)

    def placed(self, encoding: tokenizers.Encoding, rows: Sequence[Sequence[int]], text: str) -> list[list[TextToken]]:
        """Rows of an encoding's tokens with their places in the text."""
        scores = self.scores[encoding.ids]
        return [
            text_tokens(encoding, places, self._prefix, text, scores[list(places)], self._special) for places in rows
        ]

    @property
    def filler(self) -> TextToken:
        """The token that short queries are expanded with."""
        assert self.expansion is not None
        token = self._tokenizer.id_to_token(self.expansion.token_id)
        return TextToken(token or "", None, None, bool(self.scores[self.expansion.token_id]), is_special=True)

    def _is_one_row(self, tokens: int, reading: DocumentReading) -> bool:
        """Whether a text of so many tokens, after the checkpoint's own cut, is read as it is."""
        is_whole = tokens < self.length and tokens <= reading.length
        return is_whole or (reading.length == self.length and not reading.windows)

    def _cut(self, offsets: Sequence[tuple[int, int]], reading: DocumentReading) -> list[Sequence[int]]:
        """The places of each window's tokens in the whole text's, of which these are the offsets."""
        ends = [end for _, end in offsets]
        # The special tokens at either end cover no characters.
        last = len(ends)
        while last and not ends[last - 1]:
            last -= 1
        first = 0
        while first < last and ends[first] <= len(self._prefix):
            first += 1
        head, body, tail = range(first), range(first, last), range(last, len(ends))
        size = reading.length - len(head) - len(tail)
        if reading.windows:
            shared = size // _OVERLAP
            pieces = [body[start : start + size] for start in range(0, max(len(body) - shared, 1), size - shared)]
        else:
            pieces = [body[:size] if self._truncation_side == "right" else body[-size:]]
        return [[*head, *piece, *tail] for piece in pieces]

    @cached_property
    def _special(self) -> set[str]:
        """The tokenizer's special tokens."""
        return {token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special}

    @cached_property
    def frame(self) -> int:
        """Number of prefix and special tokens, which every window has."""
        return len(self._whole.encode(self._prefix).ids)

    @cached_property
    def _whole(self) -> tokenizers.Tokenizer:
        """The tokenizer without truncation."""
        whole = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        whole.no_truncation()
        whole.encode_special_tokens = self._tokenizer.encode_special_tokens
        return whole
