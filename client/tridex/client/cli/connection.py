"""Arguments and options that several commands have, and the connection they open.

Light to import: the client comes with gRPC, which the help does without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tridex.client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S
from tridex.client.checks import invalid
from tridex.common.terminal.exits import fail, failing

if TYPE_CHECKING:
    from tridex.client import Client

Address = Annotated[str, typer.Option(envvar="TRIDEX_ADDRESS", help="HOST:PORT of the server's gRPC endpoint.")]
Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds allowed for each request.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of tables.")]
Collection = Annotated[str, typer.Argument(help="Name of the collection.", show_default=False)]
Query = Annotated[str, typer.Argument(help="What to look for, as text.", show_default=False)]
Filters = Annotated[
    str | None,
    typer.Option(
        "--filters", help='Conditions on metadata, as JSON: {"field": "year", "operator": ">=", "value": 2020}'
    ),
]

API_KEY_VARIABLE = "TRIDEX_API_KEY"
TLS_VARIABLES = {"ca": "TRIDEX_SERVER_CA", "certificate": "TRIDEX_CLIENT_CERT", "key": "TRIDEX_CLIENT_KEY"}

ADDRESS = DEFAULT_ADDRESS
TIMEOUT_S = DEFAULT_TIMEOUT_S


def read_filters(given: str | None) -> dict[str, Any] | None:
    """`--filters` as the client takes it. Raises InvalidArgument."""
    if given is None:
        return None
    try:
        filters = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise invalid("--filters", given, f"JSON ({error})") from None
    if not isinstance(filters, dict) or not filters:
        raise invalid("--filters", given, "a JSON object that is not empty")
    return filters


@contextmanager
def connected(address: str, timeout_s: float) -> Iterator[Client]:
    """A client whose errors, and those of files read meanwhile, end the command with one line on stderr.

    Keys and certificates are of the environment alone: every user of a machine can read its processes' arguments.
    """
    from tridex.client import TLS, Client, Unavailable

    files = {name: os.environ.get(variable) or None for name, variable in TLS_VARIABLES.items()}
    tls = TLS(**files) if any(files.values()) else False
    api_key = os.environ.get(API_KEY_VARIABLE) or None
    with failing(), Client(address, timeout_s=timeout_s, api_key=api_key, tls=tls) as client:
        try:
            yield client
        except Unavailable as error:
            hint = "" if client.is_ready() else " (is a server running there? start one with: tridex serve)"
            fail(f"{error}{hint}", error)
