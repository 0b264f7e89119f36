"""Checks before sending: only what cannot be sent or would be silently wrong. The server checks the rest.

Every function returns its value in the form that is sent, or raises InvalidArgument.
"""

from __future__ import annotations

import json
import math
import operator
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from tridex.protocol import limits

from .errors import InvalidArgument
from .results import Document, Embeddings

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80

_DOCUMENT_FIELDS = {"id", "text", "metadata"}

_INT64_MAX = 2**63 - 1
"""The largest integer that a request parameter holds."""

_LONGEST_TIMEOUT_S = 86_400.0
"""gRPC takes a deadline that is a hundred years away or more for one that has passed."""


def invalid(argument: str, value: object, expected: str) -> InvalidArgument:
    """The error for an argument that is not what was expected."""
    try:
        shown = _short.repr(value)
    except ValueError:  # an integer of thousands of digits
        shown = f"a huge {type(value).__name__}"
    return InvalidArgument(f"{argument}: expected {expected}, got {shown}")


def timeout(value: float) -> float:
    """`timeout_s` in seconds; more than a day, infinity too, is a day."""
    seconds = _number(value)
    if not seconds > 0:
        raise invalid("timeout_s", value, "a number of seconds above 0")
    return min(seconds, _LONGEST_TIMEOUT_S)


def flag(argument: str, value: bool) -> bool:
    """`value` as a bool; numpy's will do."""
    if not isinstance(value, (bool, np.bool_)):
        raise invalid(argument, value, "True or False")
    return bool(value)


def one_of(argument: str, value: str, choices: Sequence[str]) -> str:
    """`value`, one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise invalid(argument, value, f"one of {', '.join(choices)}")
    return value


def name(argument: str, value: str | None) -> str | None:
    """`value`, a name that the server may know, such as a codec's; None where it is left out."""
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise invalid(argument, value, "a name, a str")
    _utf8(argument, value)
    return value


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
    if not minimum <= number <= (_INT64_MAX if maximum is None else maximum):
        raise invalid(argument, value, expected)
    return number


def text(argument: str, value: str) -> bytes:
    """`value` as UTF-8: not blank, without lone surrogates, at most `limits.MAX_TEXT_BYTES`."""
    if not isinstance(value, str) or not value.strip():
        raise invalid(argument, value, "text that is not empty")
    encoded = _utf8(argument, value)
    if len(encoded) > limits.MAX_TEXT_BYTES:
        raise invalid(argument, value, f"at most {limits.MAX_TEXT_BYTES} bytes of UTF-8, not {len(encoded)}")
    return encoded


def document_id(argument: str, value: str) -> bytes:
    """`value` as UTF-8: not blank, at most `limits.MAX_ID_BYTES`."""
    if not isinstance(value, str) or not value.strip():
        raise invalid(argument, value, "an id, a str that is not empty")
    encoded = _utf8(argument, value)
    if len(encoded) > limits.MAX_ID_BYTES:
        raise invalid(argument, value, f"an id of at most {limits.MAX_ID_BYTES} bytes of UTF-8, not {len(encoded)}")
    return encoded


def stream(argument: str, values: Iterable[Any]) -> Iterator[Any]:
    """An iterator over `values`, which must not be a single one of them: the characters of a str would pass for texts,
    the keys of a mapping for documents."""
    if isinstance(values, (str, bytes, Mapping, Document)):
        single = "query" if argument == "queries" else argument.removesuffix("s")
        raise invalid(argument, values, f"a sequence of them, [{single}] for one")
    try:
        return iter(values)
    except TypeError:
        raise invalid(argument, values, "a sequence") from None


def query(argument: str, value: str | ArrayLike) -> bytes | Embeddings:
    """A query as UTF-8, or as float32 token embeddings [tokens, dim], finite."""
    if isinstance(value, str):
        return text(argument, value)
    expected = "text or finite token embeddings [tokens, dim]"
    try:
        given = np.asarray(value)
    except Exception as error:  # arrays of other libraries raise what they like, as torch for a tensor on a GPU
        raise invalid(argument, value, f"{expected} ({error})") from None
    if given.dtype.kind not in "fiu":
        raise invalid(argument, value, expected)
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, which is refused below
        embeddings: Embeddings = given.astype(np.float32, copy=False)
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


def texts(argument: str, values: Iterable[str]) -> list[bytes]:
    """`values` as UTF-8, each as `text` has it."""
    return [text(f"{argument}[{i}]", value) for i, value in enumerate(stream(argument, values))]


def ids(values: Iterable[str]) -> list[bytes]:
    """`values` as UTF-8, each as `document_id` has it."""
    return [document_id(f"ids[{i}]", value) for i, value in enumerate(stream("ids", values))]


def documents(values: Iterable[Document | Mapping[str, Any]]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Id, text and metadata of each document in UTF-8; documents are read and checked one by one."""
    return (_document(f"documents[{i}]", value) for i, value in enumerate(stream("documents", values)))


def metadata_json(argument: str, value: Mapping[str, Any]) -> bytes:
    """`value` as a JSON object in UTF-8, at most `limits.MAX_METADATA_BYTES`, dates and times as ISO 8601; NaN, which
    JSON does not have, is refused."""
    if not isinstance(value, Mapping):
        raise invalid(argument, value, "a mapping")
    try:
        encoded = _utf8(argument, json.dumps(dict(value), ensure_ascii=False, allow_nan=False, default=_time))
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(argument, value, f"a JSON object ({error})") from None
    if len(encoded) > limits.MAX_METADATA_BYTES:
        raise invalid(argument, value, f"at most {limits.MAX_METADATA_BYTES} bytes of JSON, not {len(encoded)}")
    return encoded


def weight(argument: str, value: SupportsFloat) -> str:
    """`value`, a number from 0 to 1, in decimal."""
    number = _number(value)
    if not 0 <= number <= 1:
        raise invalid(argument, value, "a number from 0 to 1")
    return repr(number)


def decimal(argument: str, value: SupportsFloat) -> str:
    """`value`, a finite number, in decimal."""
    number = _number(value)
    if not math.isfinite(number):
        raise invalid(argument, value, "a finite number")
    return repr(number)


def filters_json(argument: str, value: Mapping[str, Any] | None) -> str | None:
    """`value` as JSON in ASCII, times as ISO 8601; None where there is no condition. The server checks the rest."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise invalid(argument, value, "a mapping")
    if not value:
        return None
    try:
        encoded = json.dumps(dict(value), allow_nan=False, default=_time)
    except (TypeError, ValueError, RecursionError) as error:
        raise invalid(argument, value, f"a JSON object ({error})") from None
    if len(encoded) > limits.MAX_FILTER_BYTES:
        raise invalid(argument, value, f"at most {limits.MAX_FILTER_BYTES} bytes of JSON, not {len(encoded)}")
    return encoded


def fields_json(value: Mapping[str, str]) -> str:
    """`value` as JSON in ASCII."""
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for item in value.items() for part in item):
        raise invalid("fields", value, "a mapping of names to types, like {'year': 'int'}")
    return json.dumps(dict(value))


def field_name(argument: str, value: str) -> str:
    """`value`, the name of a metadata field."""
    if not isinstance(value, str) or not value:
        raise invalid(argument, value, "the name of a metadata field, a str")
    _utf8(argument, value)
    return value


def dropped_json(names: Iterable[str]) -> str:
    """Fields to let go, as JSON in ASCII."""
    return json.dumps({field_name(f"fields[{i}]", name): None for i, name in enumerate(stream("fields", names))})


def distinct(ids: Iterable[bytes], first: int) -> None:
    """Refuses an id that occurs twice in a batch of documents, of which `first` is the position of the first."""
    positions: dict[bytes, int] = {}
    for position, key in enumerate(ids, first):
        if key in positions:
            expected = f"every id once in a batch (documents[{positions[key]}] has it)"
            raise invalid(f"documents[{position}].id", key.decode(), expected)
        positions[key] = position


def _document(argument: str, value: Document | Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
    if not isinstance(value, Document):
        if not isinstance(value, Mapping) or not {"id", "text"} <= set(value) <= _DOCUMENT_FIELDS:
            raise invalid(argument, value, "a Document or a mapping with id, text and perhaps metadata, nothing else")
        value = Document(**value)
    return (
        document_id(f"{argument}.id", value.id),
        text(f"{argument}.text", value.text),
        metadata_json(f"{argument}.metadata", value.metadata),
    )


def _number(value: SupportsFloat) -> float:
    """`value` as a float, NaN where it is no number."""
    try:
        return float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError, OverflowError):  # an array, an integer of hundreds of digits
        return math.nan


def _time(value: object) -> str:
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is no JSON")


def _utf8(argument: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise invalid(argument, value, f"text that UTF-8 can encode ({error.reason})") from None
