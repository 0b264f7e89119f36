"""Reads the fields of a raw request as checked values: the primitives that every parser of requests is made of.

Whatever is wrong is a RequestError INVALID_ARGUMENT that names the field, its value and what was expected.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Collection, Sequence
from enum import Enum
from typing import Any, TypeVar

from tridex.protocol import limits, models
from tridex.protocol.tensors import Tensor

from .service import Request, invalid

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

_ENSEMBLE_NAMES = {tensor.name: models.QUERY.name for tensor in (models.QUERY_TO_ENCODE, models.QUERY_TO_RERANK)}
"""The name by which clients of an ensemble know an input, where it differs from the model's own."""

D = TypeVar("D")
E = TypeVar("E", bound=Enum)


def texts(request: Request, tensor: Tensor) -> list[str]:
    """A required string tensor [batch, 1] as texts: not empty, valid UTF-8, within the limits."""
    name = _ENSEMBLE_NAMES.get(tensor.name, tensor.name)
    given = _strings(request, tensor)
    size = sum(map(len, given))
    if size > limits.MAX_REQUEST_TEXT_BYTES:
        raise invalid(
            f"input {name} holds {size} bytes of text; expected at most {limits.MAX_REQUEST_TEXT_BYTES} in one "
            "request: send fewer texts at a time"
        )
    return [_text(name, raw, limits.MAX_TEXT_BYTES) for raw in given]


def ids(request: Request, tensor: Tensor) -> list[str]:
    """A required string tensor as document ids, flattened."""
    given = _strings(request, tensor)
    if len(given) > limits.MAX_IDS:
        raise invalid(f"input {tensor.name} holds {len(given)} ids; expected at most {limits.MAX_IDS} in one request")
    return [_text(tensor.name, raw, limits.MAX_ID_BYTES) for raw in given]


def json_objects(request: Request, tensor: Tensor) -> list[dict[str, Any]]:
    """A required string tensor [batch, 1] of JSON objects; an empty string means an empty object."""
    return [_json_object(tensor.name, raw) for raw in _strings(request, tensor)]


def name(request: Request, parameter: str) -> str:
    """A required parameter that names a collection or an alias."""
    value = request.parameters.get(parameter)
    if not isinstance(value, str) or not limits.COLLECTION_NAME.fullmatch(value):
        raise invalid(
            f"parameter {parameter} is {shortened(value)}; expected a name of 1 to 64 letters, digits, "
            "'-' or '_' that starts with a letter or digit"
        )
    request.sender.timeline.attributes[parameter] = value
    return value


def json_value(request: Request, parameter: str) -> Any | None:
    """A parameter that is JSON, decoded; None where it is absent. What it means is checked by the index."""
    raw = request.parameters.get(parameter)
    if raw is None:
        return None
    if not isinstance(raw, str) or len(raw.encode(errors="replace")) > limits.MAX_FILTER_BYTES:
        raise invalid(
            f"parameter {parameter} is {shortened(raw)}; expected JSON of at most {limits.MAX_FILTER_BYTES} bytes"
        )
    try:
        value = _decoded(raw)
    except (ValueError, RecursionError) as error:
        raise invalid(f"parameter {parameter} is {shortened(raw)}; expected JSON ({error})") from None
    if value is None:
        raise invalid(f"parameter {parameter} is null; expected an object, or no such parameter")
    return value


def text(request: Request, parameter: str) -> str:
    """A required parameter that is a string."""
    value = request.parameters.get(parameter)
    if not isinstance(value, str):
        raise invalid(f"parameter {parameter} is {shortened(value)}; expected a string")
    return value


def number(request: Request, parameter: str) -> float | None:
    """A finite number, which is sent as a string in decimal; None when absent."""
    if parameter not in request.parameters:
        return None
    value = request.parameters[parameter]
    try:
        parsed = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        parsed = math.nan
    if not math.isfinite(parsed):
        raise invalid(f"parameter {parameter} is {shortened(value)}; expected a finite number, as a string")
    return parsed


def flag(request: Request, parameter: str, *, default: bool = True) -> bool:
    """A bool, `default` when absent."""
    value = request.parameters.get(parameter, default)
    if not isinstance(value, bool):
        raise invalid(f"parameter {parameter} is {shortened(value)}; expected true or false")
    return value


def one_of(request: Request, parameter: str, values: Collection[str], default: str | None = None) -> str:
    """One of these strings; required where there is no default."""
    value = request.parameters.get(parameter, default)
    if not isinstance(value, str) or value not in values:
        raise invalid(f"parameter {parameter} is {shortened(value)}; expected one of: {', '.join(values)}")
    return value


def choice(request: Request, parameter: str, kind: type[E], default: E | None = None) -> E:
    """One of the values of an enumeration; required where there is no default."""
    if default is not None and parameter not in request.parameters:
        return default
    return kind(one_of(request, parameter, [member.value for member in kind]))


def integer(request: Request, parameter: str, low: int, high: int, *, default: D) -> int | D:
    """An integer within bounds, `default` when absent."""
    if parameter not in request.parameters:
        return default
    value = request.parameters[parameter]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(f"parameter {parameter} is {shortened(value)}; expected an integer from {low} to {high}")
    return value


def shortened(value: object) -> str:
    """A value for a message, cut where it is long."""
    return _SHORT.repr(value)


def _decoded(text: str) -> Any:
    """Raises ValueError, also for NaN and infinity, which JSON has not; RecursionError where it nests too deep."""
    return json.loads(text, parse_constant=_no_json)


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _strings(request: Request, tensor: Tensor) -> Sequence[bytes]:
    values = request.get(tensor)
    if values is None:
        raise invalid(f"input {tensor.name} is missing")
    flat: Sequence[bytes] = values.reshape(-1).tolist()
    return flat


def _text(name: str, raw: bytes, limit: int) -> str:
    if len(raw) > limit:
        raise invalid(f"input {name} holds a text of {len(raw)} bytes; expected at most {limit}")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise invalid(f"input {name} holds {shortened(raw)}, which is not valid UTF-8: {error.reason}") from None
    if not text.strip():
        raise invalid(f"input {name} holds {shortened(text)}; expected a text that is not empty")
    return text


def _json_object(name: str, raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    text = _text(name, raw, limits.MAX_METADATA_BYTES)
    try:
        value = _decoded(text)
        # Half of a surrogate pair: JSON can escape it, the store cannot hold it. 1e999: JSON has it, no float does.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        if not isinstance(value, dict):
            raise TypeError("it is none")
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid(f"input {name} holds {shortened(raw)}; expected a JSON object ({error})") from None
    return value
