"""`tridex index fields`."""

from __future__ import annotations

from typing import Annotated

import typer

from .collections import print_collection
from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Json, Timeout, connected
from .documents import declaration


def fields(
    collection: Collection,
    add: Annotated[
        list[str] | None,
        typer.Option(help="A field to add, or one that gets another type, as NAME:TYPE; may be repeated."),
    ] = None,
    drop: Annotated[list[str] | None, typer.Option(help="A field to let go; may be repeated.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Show the metadata fields that filters can ask for, and change them. Nothing is encoded again.

    Types are str, int, float, bool, datetime and list[str].
    """
    with connected(address, timeout) as client:
        if drop:
            client.drop_fields(collection, drop)
        if add:
            client.add_fields(collection, declaration(add))
        info = client.describe_collection(collection)
    print_collection(info, as_json)
