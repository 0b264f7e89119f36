"""The command line's `store`: backups, and what is corrupt. Light to import: the index is imported when one runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tridex.common.terminal.exits import FAILED, failing
from tridex.common.terminal.output import print_json, print_line, print_table
from tridex.common.terminal.progress import progress

from .common import STORE, Json, StoreFolder

Destination = Annotated[Path, typer.Argument(help="The folder of the backups, for one store.", show_default=False)]


def backup(
    destination: Destination,
    store: StoreFolder = STORE,
    keep: Annotated[int, typer.Option(min=1, help="Backups to keep, this one included.")] = 7,
    as_json: Json = False,
) -> None:
    """Back up a store, also while a server writes to it. Only what no earlier backup has is copied."""
    from tridex.index import Store, back_up

    os.umask(0o077)  # as the store's own files
    with failing(), progress("bytes", None, not as_json) as copied:
        made = back_up(Store(store), destination, keep, copied)
    if as_json:
        print_json(made)
        return
    print_line(
        f"Backup {made.name} of {made.collections:,} collections: {_megabytes(made.bytes)} in {made.files:,} files, of "
        f"which {_megabytes(made.copied_bytes)} were new"
    )


def restore(
    destination: Destination,
    store: Annotated[Path, typer.Option(help="The folder for the store: not there yet, or empty.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--backup", help="Which backup, by its name; the newest one if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a store of a backup. Every file is verified; nothing is written over."""
    from tridex.index import restore as run

    os.umask(0o077)  # as the store's own files
    with failing(), progress("bytes", None, not as_json) as copied:
        done = run(destination, store, name, copied)
    if as_json:
        print_json(done)
        return
    print_line(
        f"Restored {done.collections:,} collections of backup {done.name} into {store}: {_megabytes(done.bytes)} in "
        f"{done.files:,} files, all verified"
    )


def check(
    store: StoreFolder = STORE,
    backups: Annotated[
        Path | None, typer.Option(help="A folder of backups to read instead.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Read everything in a store, also while a server writes to it, and name what is corrupt.

    Ends with status 1 where something is.
    """
    from tridex.index import Store, check_backups, check_store

    said: Callable[[str], None] = (lambda _: None) if as_json else (lambda name: print_line(f"Reading {name}"))
    with failing():
        found = check_store(Store(store), said) if backups is None else check_backups(backups, said)
    if as_json:
        print_json(found)
    else:
        if found.corrupt:
            rows = [(c.collection, c.file or "", c.rows, c.reason) for c in found.corrupt]
            print_table(("collection", "file", "rows", "what is wrong"), rows, prose=("rows", "what is wrong"))
        print_line(
            f"Read {found.collections:,} collections: {found.documents:,} documents, {_megabytes(found.bytes)} in "
            f"{found.files:,} files; {len(found.corrupt)} corrupt"
        )
        if found.without_sum:
            print_line(f"{found.without_sum:,} files have no SHA-256 yet: a changed bit in them may go unseen")
        for store_format, count in sorted(found.formats.items()):
            print_line(f"{count:,} collections of store format {store_format}")
    if found.corrupt:
        raise typer.Exit(FAILED)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
