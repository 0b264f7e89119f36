"""What a refusal says where Triton server's Python backend has no status code for it.

The backend knows nine codes. A refusal without one among them is INTERNAL, and its message begins with the tag of one
of these kinds. None of them is UNAVAILABLE, which gRPC clients send again by themselves.
"""

from __future__ import annotations

import re
from enum import Enum


class Refusal(str, Enum):
    """A kind of refusal; the value is its tag."""

    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    """The server's memory or disk has no room for what was asked, until an operator makes some."""
    OVERLOADED = "OVERLOADED"
    """The server has more work than it can do in time; later it may have less."""
    READ_ONLY = "READ_ONLY"
    """This server does not write to its store."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """The time that the request's sender waits was over before there was an answer."""


_TAGGED = re.compile(rf"(?:in ensemble '\w+', )?({'|'.join(Refusal)}): ")


def tagged(kind: Refusal, message: str) -> str:
    """The message of the INTERNAL error that stands for a refusal."""
    return f"{kind.value}: {message}"


def untagged(message: str) -> tuple[Refusal, str] | None:
    """The kind and the words of a refusal, by the message of an INTERNAL error; None where it is another error.

    Ensembles name themselves before the tag.
    """
    tag = _TAGGED.match(message)
    return (Refusal(tag[1]), message[tag.end() :]) if tag else None
