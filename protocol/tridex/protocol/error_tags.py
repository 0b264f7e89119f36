"""Error kinds for which Triton server's Python backend has no status code.

The backend knows nine codes. An error of another kind is sent as INTERNAL, and its message begins with the kind's tag.
None of the tags is UNAVAILABLE, which gRPC clients retry by themselves.
"""

from __future__ import annotations

import re
from enum import Enum


class ErrorTag(str, Enum):
    """A kind of error; the value is the tag that its message begins with."""

    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    """The server's memory or disk has no room for what was asked, until an operator makes some."""
    OVERLOADED = "OVERLOADED"
    """The server has more work than it can do in time; later it may have less."""
    READ_ONLY = "READ_ONLY"
    """This server does not write to its store."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """The request's timeout passed before there was an answer."""
    UNAUTHENTICATED = "UNAUTHENTICATED"
    """The request has no API key, or one that the server does not know."""
    PERMISSION_DENIED = "PERMISSION_DENIED"
    """The request's API key does not allow it."""


_TAGGED = re.compile(rf"({'|'.join(ErrorTag)}): ")
_ENSEMBLE = re.compile(r"in ensemble '\w+', ")


def tagged(tag: ErrorTag, message: str) -> str:
    """The message of the INTERNAL error that stands for an error of this kind."""
    return f"{tag.value}: {message}"


def without_ensemble(message: str) -> str:
    """The message without the name of the ensemble, which Triton server puts before it."""
    found = _ENSEMBLE.match(message)
    return message[found.end() :] if found else message


def untagged(message: str) -> tuple[ErrorTag, str] | None:
    """The kind and the bare message of an INTERNAL error, or None where its message has no tag."""
    message = without_ensemble(message)
    tag = _TAGGED.match(message)
    return (ErrorTag(tag[1]), message[tag.end() :]) if tag else None
