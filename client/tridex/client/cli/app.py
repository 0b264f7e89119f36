"""Puts the commands together."""

from __future__ import annotations

import signal

import typer

from tridex.common.terminal.streams import run

from . import compact, read, statistics, write
from .collections import alias, collections
from .extensions import add_extensions


def create_app() -> typer.Typer:
    """The command line with every command that is installed."""
    app = typer.Typer(
        name="tridex",
        help="ColBERT retrieval on NVIDIA Triton Inference Server.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (
        read.search,
        read.rerank,
        read.encode,
        write.upsert,
        write.delete,
        statistics.stats,
    ):
        app.command()(command)
    app.add_typer(collections, name="collections")
    app.add_typer(alias, name="alias")
    index = typer.Typer(help="Fill a collection, and keep it in order.", no_args_is_help=True)
    index.command()(write.add)
    index.command()(compact.compact)
    app.add_typer(index, name="index")
    add_extensions(app, "tridex.commands")
    add_extensions(index, "tridex.commands.index")
    return app


def main() -> None:
    """The console script."""
    # What stops a service ends a command as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run(create_app())
