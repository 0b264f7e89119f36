"""Commands for collections and aliases as a whole: `tridex collections ...` and `tridex alias ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.client.checks import invalid
from tridex.client.results import CollectionInfo
from tridex.common.terminal.output import print_json, print_line, print_table

from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Json, Timeout, connected

collections = typer.Typer(help="Make, show and drop collections.", no_args_is_help=True)
alias = typer.Typer(help="Names that lead to a collection, and can lead to another at once.", no_args_is_help=True)

Alias = Annotated[str, typer.Argument(help="Name of the alias.", show_default=False)]


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
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="A metadata field that filters can ask for, as NAME:TYPE; may be repeated."),
    ] = None,
    codec: Annotated[str | None, typer.Option(help="How the collection stores embeddings.")] = None,
    document_length: Annotated[
        int | None, typer.Option(help="Most tokens that the encoder reads at once; the checkpoint's own if left out.")
    ] = None,
    long_documents: Annotated[
        str | None, typer.Option(help="What becomes of longer documents: windows (if left out), or truncate.")
    ] = None,
    pooling_factor: Annotated[
        int | None, typer.Option(help="Keep one token embedding, the mean of similar ones, for this many.")
    ] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Make an empty collection. Types of fields are str, int, float, bool and datetime."""
    with connected(address, timeout) as client:
        info = client.create_collection(
            collection,
            codec=codec,
            fields=_declaration(fields or []),
            document_length=document_length,
            long_documents=long_documents,
            pooling_factor=pooling_factor,
        )
    _print(info, as_json)


@collections.command()
def describe(
    collection: Collection, as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S
) -> None:
    """Show one collection, or the one that an alias leads to."""
    with connected(address, timeout) as client:
        info = client.describe_collection(collection)
    _print(info, as_json)


@collections.command()
def drop(
    collection: Collection, as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S
) -> None:
    """Remove a collection and its documents. There is no way back."""
    with connected(address, timeout) as client:
        client.drop_collection(collection)
    print_json({"dropped": collection}) if as_json else print_line(f"Dropped {collection}")


@alias.command("list")
def list_aliases(as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S) -> None:
    """Show every alias."""
    with connected(address, timeout) as client:
        aliases = client.aliases()
    print_json(aliases) if as_json else print_table(("alias", "collection"), list(aliases.items()))


@alias.command("set")
def set_alias(
    name: Alias,
    collection: Collection,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Make an alias lead to a collection; set it to the old one again to roll back."""
    with connected(address, timeout) as client:
        client.set_alias(name, collection)
    print_json({name: collection}) if as_json else print_line(f"{name} leads to {collection}")


@alias.command("drop")
def drop_alias(name: Alias, as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S) -> None:
    """Remove an alias; the collection stays."""
    with connected(address, timeout) as client:
        client.drop_alias(name)
    print_json({"dropped": name}) if as_json else print_line(f"Dropped the alias {name}")


def print_collections(found: list[CollectionInfo]) -> None:
    """A table of collections."""
    print_table(
        ("documents", "version", "dim", "codec", "tokens read", "encoder", "collection", "fields"),
        [
            (c.count, c.version, c.dim, c.codec, _reading(c), c.fingerprint[:12], c.name, _fields(c))
            for c in found
            if not c.damage
        ],
    )
    for damaged in found:
        if damaged.damage:
            print_line(f"{damaged.name}: {damaged.damage}")


def _print(info: CollectionInfo, as_json: bool) -> None:
    if as_json:
        print_json(info)
    else:
        print_collections([info])


def _reading(info: CollectionInfo) -> str:
    pooled = f", 1 of {info.pooling_factor} kept" if info.pooling_factor > 1 else ""
    return f"{info.document_length}, {info.long_documents}{pooled}"


def _fields(info: CollectionInfo) -> str:
    return ", ".join(f"{name}:{kind}" for name, kind in info.fields.items())


def _declaration(fields: list[str]) -> dict[str, str]:
    declared: dict[str, str] = {}
    for given in fields:
        name, colon, kind = given.rpartition(":")
        if not colon or name in declared:
            raise invalid("--field", given, "NAME:TYPE, each name once")
        declared[name] = kind
    return declared
