"""What a tritonserver answers, read from its executable: one of another version may answer more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

NAME = "search"
"""In place of every name in a path."""


def grpc_methods(executable: Path) -> set[str]:
    """The methods of its services for clients, as /SERVICE/METHOD."""
    found = re.findall(rb"(?<=\0)/(?:inference|grpc\.health)\.[\w.]+/[A-Z]\w+(?=\0)", executable.read_bytes())
    return {method.decode() for method in found}


def http_paths(executable: Path) -> set[str]:
    """Every path of its HTTP, which it tells apart by regular expressions."""
    patterns = re.findall(rb"(?<=\0)/(?:v2|metrics|ping|invocations)(?:[/(][^\0 ]*)?(?=\0)", executable.read_bytes())
    return {path for pattern in patterns for path in _examples(_simplified(pattern.decode()))}


def _simplified(pattern: str) -> str:
    """Of groups, alternatives and question marks behind groups alone."""
    for there, instead in (("(?:", "("), ("[^/]+", NAME), ("[0-9]+", "1"), ("/?", "(/)?")):
        pattern = pattern.replace(there, instead)
    assert not {*pattern} & {*"[]+*.\\{}^$"}, pattern
    return pattern


def _examples(pattern: str) -> Iterator[str]:
    """All that it matches."""
    group = re.search(r"\(([^()]*)\)(\??)", pattern)
    if group is None:
        yield pattern
        return
    for choice in {*group[1].split("|"), *([""] if group[2] else [])}:
        yield from _examples(pattern[: group.start()] + choice + pattern[group.end() :])
