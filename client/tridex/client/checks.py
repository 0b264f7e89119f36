"""Checks before sending: only what cannot be sent or would be silently wrong. The server checks the rest."""

from __future__ import annotations

import json
import operator
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from tridex.protocol import limits, parameters

from .errors import InvalidArgument
from .results import Document, Embeddings

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80

_DOCUMENT_FIELDS = {"id", "text", "metadata"}


def invalid(argument: str, value: object, expected: str) -> InvalidArgument:
    """The error for an argument that is not what was expected."""
    return InvalidArgument(f"{argument}: expected {expected}, got {_short.repr(value)}")


def collection_name(value: str, argument: str = "collection") -> str:
    """`value`, a valid name of a collection or alias."""
    if not isinstance(value, str) or not limits.COLLECTION_NAME.fullmatch(value):
        raise invalid(argument, value, f"a name like {limits.COLLECTION_NAME.pattern}")
    return value


def integer(argument: str, value: SupportsIndex, minimum: int, maximum: int | None = None) -> int:
    """`value` as an int within bounds; a numpy integer will do."""
    expected = f"an integer of at least {minimum}" + (f" and at most {maximum}" if maximum is not None else "")
    try:
        number = operator.index(value)
    except TypeError:
        raise invalid(argument, value, expected) from None
    if number < minimum or (maximum is not None and number > maximum):
        raise invalid(argument, value, expected)
    return number


def text(argument: str, value: str) -> bytes:
    """`value` as UTF-8: not blank, no lone surrogates, at most `limits.MAX_TEXT_BYTES`."""
    if not isinstance(value, str) or not value.strip():
        raise invalid(argument, value, "text that is not empty")
    encoded = _utf8(argument, value)
    if len(encoded) > limits.MAX_TEXT_BYTES:
        raise invalid(argument, value, f"at most {limits.MAX_TEXT_BYTES} bytes of UTF-8, not {len(encoded)}")
    return encoded


def document_id(argument: str, value: str) -> bytes:
    """`value` as UTF-8."""
    if not isinstance(value, str):
        raise invalid(argument, value, "an id, a str")
    return _utf8(argument, value)


def several(argument: str, values: Sequence[Any]) -> Sequence[Any]:
    """`values`, which must not be one str: its characters would pass for texts or ids."""
    if isinstance(values, str):
        raise invalid(argument, values, "a sequence of them, not one str")
    return values


def query(argument: str, value: str | ArrayLike) -> bytes | Embeddings:
    """A query as UTF-8, or as float32 token embeddings [tokens, dim], finite."""
    if isinstance(value, str):
        return text(argument, value)
    expected = "text or finite token embeddings [tokens, dim]"
    try:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is refused below
            embeddings: Embeddings = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError):
        raise invalid(argument, value, expected) from None
    if embeddings.ndim != 2 or 0 in embeddings.shape:
        raise InvalidArgument(f"{argument}: expected {expected}, got an array of shape {embeddings.shape}")
    if not np.isfinite(embeddings).all():
        raise invalid(argument, value, expected)
    return embeddings


def alike(argument: str, queries: Sequence[bytes | Embeddings]) -> None:
    """Refuses queries that cannot share a request: texts among embeddings, embeddings of different dimensions."""
    kinds = {"text" if isinstance(query, bytes) else f"{query.shape[1]} dimensions" for query in queries}
    if len(kinds) > 1:
        raise invalid(argument, sorted(kinds), "all texts, or all embeddings of one dimension")


def document(argument: str, value: Document | Mapping[str, Any]) -> Document:
    """`value` as a Document; a mapping has the keys id, text and perhaps metadata, and no other."""
    if isinstance(value, Document):
        return value
    if not isinstance(value, Mapping) or not {"id", "text"} <= set(value) <= _DOCUMENT_FIELDS:
        raise invalid(argument, value, "a Document or a mapping with id, text and perhaps metadata, nothing else")
    return Document(**value)


def metadata_json(argument: str, value: Mapping[str, Any]) -> bytes:
    """`value` as a JSON object in UTF-8; NaN, which JSON has not, is refused."""
    if not isinstance(value, Mapping):
        raise invalid(argument, value, "a mapping")
    try:
        encoded = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(argument, value, f"a JSON object ({error})") from None
    return _utf8(argument, encoded)


def search_mode(
    mode: str, exact: bool, n_probe: int | None, n_candidates: int | None, maxsim_weight: float | None
) -> dict[str, str | int]:
    """How a search finds its documents, as request parameters; defaults are not sent. The server checks what goes
    together."""
    modes = [known.value for known in parameters.SearchMode]
    if mode not in modes:
        raise invalid("mode", mode, f"one of {', '.join(modes)}")
    if not isinstance(exact, bool):
        raise invalid("exact", exact, "True or False")
    said: dict[str, str | int] = {} if mode == parameters.DEFAULT_MODE else {parameters.MODE: mode}
    if not exact:
        said[parameters.EXACT] = exact
    if n_probe is not None:
        said[parameters.N_PROBE] = integer("n_probe", n_probe, 1, limits.MAX_PROBE)
    if n_candidates is not None:
        said[parameters.N_CANDIDATES] = integer("n_candidates", n_candidates, 1, limits.MAX_CANDIDATES)
    if maxsim_weight is not None:
        if not isinstance(maxsim_weight, SupportsFloat) or not 0 <= float(maxsim_weight) <= 1:
            raise invalid("maxsim_weight", maxsim_weight, "a number from 0 to 1")
        said[parameters.MAXSIM_WEIGHT] = repr(float(maxsim_weight))
    return said


def filters_json(value: Mapping[str, Any] | None) -> str | None:
    """`value` as JSON in ASCII, times as ISO 8601; None where there is no condition. The server checks what it says."""
    if not value:
        return None
    if not isinstance(value, Mapping):
        raise invalid("filters", value, "a mapping")
    try:
        encoded = json.dumps(dict(value), allow_nan=False, default=_time)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid("filters", value, f"a JSON object ({error})") from None
    if len(encoded) > limits.MAX_FILTER_BYTES:
        raise invalid("filters", value, f"at most {limits.MAX_FILTER_BYTES} bytes of JSON, not {len(encoded)}")
    return encoded


def fields_json(value: Mapping[str, str]) -> str:
    """`value` as JSON in ASCII."""
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for item in value.items() for part in item):
        raise invalid("fields", value, "a mapping of names to types, like {'year': 'int'}")
    return json.dumps(dict(value))


def distinct(argument: str, ids: Iterable[bytes]) -> None:
    """Refuses an id that occurs twice: which of the two documents should stay?"""
    seen: set[bytes] = set()
    for one in ids:
        if one in seen:
            raise invalid(argument, one.decode(), "every id once in a batch")
        seen.add(one)


def _time(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _utf8(argument: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise invalid(argument, value, f"text that UTF-8 can encode ({error.reason})") from None
