"""Puts the commands together."""

from __future__ import annotations

import signal
from importlib.metadata import version
from typing import Annotated

import typer

from tridex.common.terminal.output import print_line
from tridex.common.terminal.streams import run

from .add import add
from .aliases import alias
from .collections import collections
from .compact import compact
from .delete import delete
from .encode import encode
from .extensions import add_extensions
from .fields import fields
from .rerank import rerank
from .search import search
from .stats import stats
from .upsert import upsert


def create_app() -> typer.Typer:
    """The command line with every command that is installed."""
    app = typer.Typer(
        name="tridex",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_global_options)
    for command in (search, rerank, encode, upsert, delete, stats):
        app.command()(command)
    app.add_typer(collections, name="collections")
    app.add_typer(alias, name="alias")
    index = typer.Typer(help="Fill a collection, and keep it in order.", no_args_is_help=True)
    index.command()(add)
    index.command()(fields)
    index.command()(compact)
    app.add_typer(index, name="index")
    add_extensions(app, "tridex.commands")
    add_extensions(index, "tridex.commands.index")
    store = typer.Typer(help="Back up, restore and check a store, with or without a server.", no_args_is_help=True)
    add_extensions(store, "tridex.commands.store")
    app.add_typer(store, name="store")
    return app


def main() -> None:
    """The console script."""
    # What stops a service ends a command as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(create_app())


def _print_version(wanted: bool) -> None:
    if wanted:
        print_line(f"tridex {version('tridex')}")
        raise typer.Exit


def _global_options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """ColBERT retrieval on NVIDIA Triton Inference Server."""
