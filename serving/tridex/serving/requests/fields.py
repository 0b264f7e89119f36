"""Reads and checks what requests carry; every refusal names the field, its value and what was expected."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeVar

from tridex.index import MAX_QUERY_WORDS
from tridex.protocol import limits, models, parameters
from tridex.protocol.parameters import LongDocuments
from tridex.protocol.tensors import Tensor
from tridex.serving.backend.service import Request, invalid

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60

_CALLED = {tensor.name: models.QUERY.name for tensor in (models.QUERY_TO_ENCODE, models.QUERY_TO_RERANK)}
"""What those who ask an ensemble call an input, where it is another name."""

E = TypeVar("E", bound=Enum)


def texts(request: Request, tensor: Tensor) -> list[str]:
    """A required string tensor [batch, 1] as texts: not empty, valid UTF-8, within the limits."""
    name = _CALLED.get(tensor.name, tensor.name)
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


def check_query_tokens(shape: tuple[int, ...]) -> None:
    """Refuses query embeddings [batch, tokens, dim] of too many tokens."""
    if len(shape) > 1 and shape[0] * shape[1] > limits.MAX_QUERY_TOKENS:
        raise invalid(
            f"input {models.QUERY_EMBEDDINGS.name} has shape {list(shape)}, {shape[0] * shape[1]} tokens; expected at "
            f"most {limits.MAX_QUERY_TOKENS} in one request: send fewer queries at a time"
        )


def check_words(texts: Sequence[str]) -> None:
    """Refuses queries of too many words for BM25."""
    words = sum(len(text.split(maxsplit=MAX_QUERY_WORDS)) for text in texts)
    if words > limits.MAX_QUERY_WORDS:
        raise invalid(
            f"input {models.QUERY.name} holds {words} words; expected at most {limits.MAX_QUERY_WORDS} in one request: "
            "send fewer queries at a time"
        )


def metadata(request: Request, tensor: Tensor) -> list[dict[str, Any]]:
    """A string tensor [batch, 1] of JSON objects; an empty string means an empty object."""
    return [_metadata(tensor.name, raw) for raw in _strings(request, tensor)]


def collection(request: Request) -> str:
    """The collection's name, or an alias of it."""
    return _name(request, parameters.COLLECTION)


def alias(request: Request) -> str:
    """The alias's name."""
    return _name(request, parameters.ALIAS)


def filters(request: Request) -> Any | None:
    """Conditions on metadata, decoded; None where there are none. What they say is checked by the index."""
    return _json_parameter(request, parameters.FILTERS)


def fields(request: Request) -> Any | None:
    """The declaration of metadata fields, decoded; None where there is none. The index checks it."""
    return _json_parameter(request, parameters.FIELDS)


def document_length(request: Request) -> int | None:
    """Tokens of a new collection's documents, None for the checkpoint's own length."""
    value = request.parameters.get(parameters.DOCUMENT_LENGTH)
    return None if value is None else _integer(parameters.DOCUMENT_LENGTH, value, 1, 2**31 - 1)


def long_documents(request: Request) -> LongDocuments:
    """What becomes of longer documents in a new collection."""
    if parameters.LONG_DOCUMENTS not in request.parameters:
        return LongDocuments.WINDOWS
    return choice(request, parameters.LONG_DOCUMENTS, LongDocuments)


def pooling_factor(request: Request) -> int:
    """Tokens of which a new collection keeps one."""
    value = request.parameters.get(parameters.POOLING_FACTOR, 1)
    return _integer(parameters.POOLING_FACTOR, value, 1, limits.MAX_POOLING_FACTOR)


def page(request: Request) -> int:
    """Documents wanted at most."""
    value = request.parameters.get(parameters.PAGE, limits.DEFAULT_PAGE)
    return _integer(parameters.PAGE, value, 1, limits.MAX_PAGE)


def top_k(request: Request) -> int:
    """Hits wanted."""
    value = request.parameters.get(parameters.TOP_K, limits.DEFAULT_TOP_K)
    return _integer(parameters.TOP_K, value, 1, limits.MAX_TOP_K)


def min_version(request: Request) -> int:
    """The store version that a search must see."""
    return _integer(parameters.MIN_VERSION, request.parameters.get(parameters.MIN_VERSION, 0), 0, 2**63 - 1)


def last_write(request: Request) -> int:
    """The version of the caller's last write."""
    return _integer(parameters.LAST_WRITE, request.parameters.get(parameters.LAST_WRITE, 0), 0, 2**63 - 1)


def flag(request: Request, name: str) -> bool:
    """A bool that is true when absent."""
    value = request.parameters.get(name, True)
    if not isinstance(value, bool):
        raise invalid(f"parameter {name} is {_SHORT.repr(value)}; expected true or false")
    return value


def choice(request: Request, name: str, kind: type[E]) -> E:
    """A required parameter with one of the values of `kind`."""
    value = request.parameters.get(name)
    try:
        return kind(value)
    except ValueError:
        expected = ", ".join(str(member.value) for member in kind)
        raise invalid(f"parameter {name} is {_SHORT.repr(value)}; expected one of: {expected}") from None


def integer(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A number within bounds, `default` when absent."""
    return _integer(name, request.parameters.get(name, default), low, high)


def short(value: object) -> str:
    """A value for a message, cut where it is long."""
    return _SHORT.repr(value)


def _name(request: Request, parameter: str) -> str:
    name = request.parameters.get(parameter)
    if not isinstance(name, str) or not limits.COLLECTION_NAME.fullmatch(name):
        raise invalid(
            f"parameter {parameter} is {_SHORT.repr(name)}; expected a name of 1 to 64 letters, digits, "
            "'-' or '_' that starts with a letter or digit"
        )
    return name


def _json_parameter(request: Request, name: str) -> Any | None:
    raw = request.parameters.get(name)
    if raw is None:
        return None
    if not isinstance(raw, str) or len(raw.encode(errors="replace")) > limits.MAX_FILTER_BYTES:
        raise invalid(
            f"parameter {name} is {_SHORT.repr(raw)}; expected JSON of at most {limits.MAX_FILTER_BYTES} bytes"
        )
    try:
        value = _json(raw)
    except (ValueError, RecursionError) as error:
        raise invalid(f"parameter {name} is {_SHORT.repr(raw)}; expected JSON ({error})") from None
    if value is None:
        raise invalid(f"parameter {name} is null; expected an object, or no such parameter")
    return value


def _json(text: str) -> Any:
    """Raises ValueError, also for NaN and infinity, which JSON has not; RecursionError where it nests too deep."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise invalid(f"parameter {name} is {_SHORT.repr(value)}; expected an integer from {low} to {high}")
    return value


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
        raise invalid(f"input {name} holds {_SHORT.repr(raw)}, which is not valid UTF-8: {error.reason}") from None
    if not text.strip():
        raise invalid(f"input {name} holds {_SHORT.repr(text)}; expected a text that is not empty")
    return text


def _metadata(name: str, raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    text = _text(name, raw, limits.MAX_METADATA_BYTES)
    try:
        value = _json(text)
        # Half of a surrogate pair: JSON can escape it, the store cannot hold it. 1e999: JSON has it, no float does.
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        if not isinstance(value, dict):
            raise TypeError("it is none")
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid(f"input {name} holds {_SHORT.repr(raw)}; expected a JSON object ({error})") from None
    return value
