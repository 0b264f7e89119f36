"""The connection of Haystack's components: what it is made of can be written to a pipeline's YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from haystack.utils import Secret

from tridex.integrations import Connection


def open_connection(
    address: str, headers: Mapping[str, str | Secret] | None, tls: bool, timeout_s: float
) -> Connection:
    """Resolves the secrets among `headers`."""
    resolved = {name: _text(value) for name, value in (headers or {}).items()}
    credentials = grpc.ssl_channel_credentials() if tls else None
    return Connection(address, timeout_s=timeout_s, headers=resolved, credentials=credentials)


def headers_to_dict(headers: Mapping[str, str | Secret] | None) -> dict[str, Any] | None:
    """Headers as they are written to YAML: of a Secret the environment variable's name; one of a token is refused."""
    if headers is None:
        return None
    return {name: value if isinstance(value, str) else value.to_dict() for name, value in headers.items()}


def headers_from_dict(headers: Mapping[str, Any] | None) -> dict[str, str | Secret] | None:
    """What `headers_to_dict` wrote."""
    if headers is None:
        return None
    return {name: value if isinstance(value, str) else Secret.from_dict(value) for name, value in headers.items()}


def _text(value: str | Secret) -> str:
    return value if isinstance(value, str) else str(value.resolve_value())
