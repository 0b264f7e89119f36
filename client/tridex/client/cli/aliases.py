"""`tridex alias ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.common.terminal.output import print_json, print_line, print_table

from .connection import ADDRESS, TIMEOUT_S, Address, Collection, Json, Timeout, connected

alias = typer.Typer(help="Names that lead to a collection, and can lead to another at once.", no_args_is_help=True)

Alias = Annotated[str, typer.Argument(help="Name of the alias.", show_default=False)]


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
