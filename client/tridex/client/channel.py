"""What a gRPC channel is opened with: the address, headers and limits. Imports no gRPC, as the command line's help
reads defaults here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from tridex.protocol.limits import MAX_MESSAGE_BYTES

from .checks import invalid
from .errors import InvalidArgument

DEFAULT_PORT = 8001
DEFAULT_ADDRESS = f"localhost:{DEFAULT_PORT}"
DEFAULT_TIMEOUT_S = 30.0

CHANNEL_ARGUMENTS: list[tuple[str, str | int]] = [
    # tritonclient sets these only where no other argument is given.
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A server that is back is found within two seconds; by default, gRPC waits up to two minutes between attempts.
    ("grpc.max_reconnect_backoff_ms", 2000),
    # Else a new client shares the connection of others to that address, and what they wait between attempts.
    ("grpc.use_local_subchannel_pool", 1),
]

Headers: TypeAlias = Mapping[str, Any]
"""As gRPC sends them: names in lower case, values str, or bytes of a name that ends with -bin."""

_ADDRESS = re.compile(
    r"(?:(?P<scheme>https?|grpcs?)://)?"
    r"(?:\[(?P<bracketed>[0-9a-f:.]+(?:%[0-9a-z_.-]+)?)\]|(?P<ipv6>[0-9a-f.]*:[0-9a-f.]*:[0-9a-f:.]*)|(?P<name>[0-9a-z_.-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?",
    re.ASCII | re.IGNORECASE,
)
_GRPC_TARGET = re.compile(r"(?:dns|ipv4|ipv6|unix|unix-abstract):[!-~]+")
"""The schemes of gRPC's naming.md, beside HOST:PORT."""
_HEADER_NAME = re.compile(r"(?!grpc-)[0-9a-z_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")
_API_KEY = re.compile(r"[!-~]+")


def target(address: str) -> tuple[str, bool]:
    """`address` as gRPC takes it: HOST or HOST:PORT, perhaps behind a scheme, or a target with a gRPC scheme; and
    whether https:// or grpcs:// asks for TLS. Raises InvalidArgument.
    """
    expected = f"HOST:PORT, like {DEFAULT_ADDRESS}"
    if isinstance(address, str) and _GRPC_TARGET.fullmatch(address):
        return address, False
    parts = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    port = int(parts["port"] or DEFAULT_PORT) if parts else 0
    if not parts or not 0 < port < 1 << 16:
        raise invalid("address", address, expected)
    ipv6 = parts["bracketed"] or parts["ipv6"]
    encrypted = (parts["scheme"] or "").lower() in ("https", "grpcs")
    return f"{f'[{ipv6}]' if ipv6 else parts['name']}:{port}", encrypted


def headers_of(given: Mapping[str, str] | None, api_key: str | None = None) -> dict[str, Any]:
    """Headers as gRPC sends them, their names in lower case, with the key's. Raises InvalidArgument."""
    if not (given is None or isinstance(given, Mapping)):
        raise invalid("headers", given, "a mapping of names to values")
    headers: dict[str, Any] = {}
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name.lower()):
            raise invalid("headers", name, "names of ASCII letters, digits and _.- that do not begin with grpc-")
        headers[name.lower()] = _header_value(name, value)
    if api_key is not None:
        if not isinstance(api_key, str) or not _API_KEY.fullmatch(api_key):
            # The key is a secret: it is not repeated.
            raise InvalidArgument(f"api_key: expected printable ASCII without spaces, got {type(api_key).__name__}")
        if "authorization" in headers:
            raise InvalidArgument("api_key: expected it, or a header 'authorization'; got both")
        headers["authorization"] = f"Bearer {api_key}"
    return headers


def _header_value(name: str, value: Any) -> Any:
    if name.lower().endswith("-bin"):
        legal, expected = isinstance(value, bytes), "bytes"
    else:
        legal, expected = (
            isinstance(value, str) and _HEADER_VALUE.fullmatch(value) is not None,
            "printable ASCII, a str,",
        )
    if not legal:
        # The value may be a secret: it is not repeated.
        raise InvalidArgument(f"headers: expected {expected} as the value of {name!r}, got {type(value).__name__}")
    return value
