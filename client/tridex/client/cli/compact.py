"""`tridex index compact`."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.common.terminal.output import print_json, print_line

from .connection import ADDRESS, Address, Collection, Json, connected

Timeout = Annotated[float, typer.Option(min=0.001, help="Seconds allowed; the server finishes what it began.")]


def compact(
    collection: Collection, as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = 3600.0
) -> None:
    """Rewrite a collection's small and half deleted files; searches go on, writes wait.

    Worth it after many small writes, or after deleting much. Disk space comes back about a minute later.
    """
    with connected(address, timeout) as client:
        version = client.compact(collection)
    if as_json:
        print_json({"version": version})
    else:
        print_line(f"Compacted {collection}, version {version}")
