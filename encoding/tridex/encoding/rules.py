"""How a checkpoint's texts are tokenised and its embeddings scored, as the export derived it from the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TextRules:
    """How the checkpoint reads a query, or a document."""

    prefix: str
    """Prepended to the text: a marker such as "[Q] ", or a prompt. The tokenizer knows which markers are one token."""
    length: int
    """Most tokens of a text, prefix and special tokens included; longer texts are cut."""
    skip_token_ids: tuple[int, ...] = ()
    """Tokens that the encoder reads and that do not score: the skiplist, usually punctuation."""
    only_token_ids: tuple[int, ...] | None = None
    """If not None, only these tokens score."""


@dataclass(frozen=True)
class Expansion:
    """Query expansion (ColBERT, Khattab and Zaharia 2020, section 3.2): short queries are padded with a token, and
    the padded positions score like any other."""

    strategy: Literal["fixed", "min"]
    """"fixed": every query has `length` tokens. "min": at least; a longer query keeps its own length."""
    length: int
    token_id: int
    attend: bool
    """Whether the encoder's attention sees the padded positions."""


@dataclass(frozen=True)
class DocumentReading:
    """How a collection's documents are read, within the checkpoint's rules."""

    length: int
    """Most tokens that the encoder reads at once, prefix and special tokens included; at most the checkpoint's own."""
    windows: bool
    """Whether a longer text is read in windows of this length; otherwise it is cut."""
    pooling_factor: int = 1
    """One token embedding is kept for this many (pooling.py)."""


@dataclass(frozen=True)
class EncodingRules:
    """Everything beside tokenizer.json and the graph that turning a text into token embeddings takes."""

    query: TextRules
    document: TextRules
    expansion: Expansion | None
    pad_token_id: int
    truncation_side: Literal["left", "right"]
    split_special_tokens: bool
    """Whether "[MASK]" in a text is read as four pieces of text instead of as the special token."""
    dim: int
    similarity: Literal["maxsim", "meanmaxsim"]
    """"meanmaxsim" divides MaxSim by the query's scoring tokens."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> EncodingRules:
        """The inverse of `to_dict`, also after a round trip through JSON.

        Raises:
            TypeError, KeyError: A field is missing, unknown or of another shape.
        """
        expansion = fields["expansion"]
        return cls(
            **{
                **fields,
                "query": _text_rules(fields["query"]),
                "document": _text_rules(fields["document"]),
                "expansion": None if expansion is None else Expansion(**expansion),
            }
        )


def _text_rules(fields: Mapping[str, Any]) -> TextRules:
    only = fields["only_token_ids"]
    return TextRules(
        **{
            **fields,
            "skip_token_ids": tuple(fields["skip_token_ids"]),
            "only_token_ids": None if only is None else tuple(only),
        }
    )
