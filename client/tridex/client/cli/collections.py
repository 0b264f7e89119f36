"""`tridex collections ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.client.results import CollectionInfo
from tridex.common.terminal.output import print_json, print_line, print_table
from tridex.protocol.parameters import CodecName, LongDocumentsName

from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Json, Timeout, connected
from .documents import Fields, declaration

collections = typer.Typer(help="Make, show and drop collections.", no_args_is_help=True)


@collections.command("list")
def list_collections(as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S) -> None:
    """Show every collection."""
    with connected(address, timeout) as client:
        found = client.collections()
    if as_json:
        print_json(found)
    else:
        print_collections(found)


@collections.command()
def create(
    collection: Collection,
    fields: Fields = None,
    codec: Annotated[CodecName | None, typer.Option(help="How the collection stores embeddings.")] = None,
    document_length: Annotated[
        int | None, typer.Option(help="Most tokens that the encoder reads at once; the checkpoint's own if left out.")
    ] = None,
    long_documents: Annotated[
        LongDocumentsName | None,
        typer.Option(help="What becomes of longer documents; windows if left out."),
    ] = None,
    pooling_factor: Annotated[
        int | None, typer.Option(help="Keep one token embedding, the mean of similar ones, for this many.")
    ] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Make an empty collection, which infers its fields from its first documents if none is declared.

    Types of fields are str, int, float, bool, datetime and list[str].
    """
    with connected(address, timeout) as client:
        info = client.create_collection(
            collection,
            codec=codec,
            fields=declaration(fields) if fields else None,
            document_length=document_length,
            long_documents=long_documents,
            pooling_factor=pooling_factor,
        )
    print_collection(info, as_json)


@collections.command()
def describe(
    collection: Collection, as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S
) -> None:
    """Show one collection, or the one that an alias leads to."""
    with connected(address, timeout) as client:
        info = client.describe_collection(collection)
    print_collection(info, as_json)


@collections.command()
def drop(
    collection: Collection, as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S
) -> None:
    """Remove a collection and its documents. It cannot be undone."""
    with connected(address, timeout) as client:
        client.drop_collection(collection)
    print_json({"dropped": collection}) if as_json else print_line(f"Dropped {collection}")


def print_collections(found: list[CollectionInfo]) -> None:
    """A table of collections."""
    print_table(
        ("collection", "documents", "version", "codec", "dim", "encoder", "tokens read", "fields"),
        [
            (c.name, c.count, c.version, c.codec, c.dim, c.fingerprint[:12], _tokens_read(c), _fields(c))
            for c in found
            if not c.damage
        ],
        prose=("tokens read", "fields"),
    )
    for corrupt in found:
        if corrupt.damage:
            print_line(f"{corrupt.name}: {corrupt.damage}")


def print_collection(info: CollectionInfo, as_json: bool) -> None:
    """One collection, as a table or as JSON."""
    if as_json:
        print_json(info)
    else:
        print_collections([info])


def _tokens_read(info: CollectionInfo) -> str:
    pooled = f", 1 of {info.pooling_factor} kept" if info.pooling_factor > 1 else ""
    return f"{info.document_length}, {info.long_documents}{pooled}"


def _fields(info: CollectionInfo) -> str:
    return ", ".join(f"{name}:{kind}" for name, kind in info.fields.items())
