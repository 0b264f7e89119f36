"""How a checkpoint wants its texts tokenised and its embeddings scored. The export derives it; nothing here decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class TextRules:
    """One of the checkpoint's two ways of reading a text."""

    prefix: str
    """Put before the text: a marker such as "[Q] ", or a prompt. The tokenizer knows the markers that are one token."""
    length: int
    """Most tokens of a text, prefix and special tokens included; what is beyond is cut."""
    skip_token_ids: tuple[int, ...] = ()
    """Tokens that the encoder reads and that do not score: the skiplist, punctuation as a rule."""
    only_token_ids: tuple[int, ...] | None = None
    """Where not None, no other tokens score."""


@dataclass(frozen=True)
class Expansion:
    """Query expansion (ColBERT, Khattab and Zaharia 2020, section 3.2): short queries are filled up with a token, and
    the filled positions score like any other."""

    strategy: Literal["fixed", "min"]
    """"fixed": every query has `length` tokens. "min": at least; a longer query keeps its own length."""
    length: int
    token_id: int
    attend: bool
    """Whether the encoder's attention sees the filled positions."""


@dataclass(frozen=True)
class DocumentReading:
    """What a collection makes of its documents, within the checkpoint's rules."""

    length: int
    """Most tokens that the encoder reads at once, prefix and special tokens included; the checkpoint's own at most."""
    windows: bool
    """Whether a longer text is read in windows of this length; where not, it is cut."""
    pooling_factor: int = 1
    """One token embedding is kept for this many (pooling.py)."""


@dataclass(frozen=True)
class EncodingRules:
    """All that turning a text into token embeddings takes beside tokenizer.json and the graph."""

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
        """The inverse of `to_dict`, also after a way through JSON.

        Raises:
            TypeError, KeyError: a field is missing, unknown or of another shape.
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
