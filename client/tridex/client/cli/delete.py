"""`tridex delete`."""

from __future__ import annotations

from typing import Annotated

import typer

from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Filters, Json, Timeout, connected, read_filters
from .documents import print_counts


def delete(
    collection: Collection,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of the documents to remove.", show_default=False)] = None,
    filters: Filters = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Remove documents from a collection: those of the ids, or those that match the filters."""
    with connected(address, timeout) as client:
        result = client.delete(collection, ids or None, filters=read_filters(filters))
    print_counts(collection, result, as_json)
