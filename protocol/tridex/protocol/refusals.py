"""What a refusal says where Triton server's Python backend has no status code for it."""

import re

RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED: "
"""Begins the message of an INTERNAL error that means: the server's memory or disk has no room for what was asked. The
backend offers no such code, and clients retry UNAVAILABLE, which would be of no use: an operator has to make room."""

_TAGGED = re.compile(rf"(in ensemble '\w+', )?{RESOURCE_EXHAUSTED}")


def exhausted_resource(message: str) -> str | None:
    """What is exhausted, by the message of an INTERNAL error; None where it is another error. Ensembles name themselves
    before it."""
    tag = _TAGGED.match(message)
    return message[tag.end() :] if tag else None
