"""The command line's `try`. Light to import: server, encoder and page wait until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.client.cli.documents import Fields
from tridex.common.terminal.exits import failing


def try_file(
    path: Annotated[
        Path,
        typer.Argument(
            help="A .jsonl, .json, .csv, .tsv or .parquet file, or a BEIR folder.", show_default=False, metavar="FILE"
        ),
    ],
    id_column: Annotated[
        str | None, typer.Option("--id", help="The column of ids; a guess, or the number of the line, if left out.")
    ] = None,
    text_columns: Annotated[
        list[str] | None,
        typer.Option("--text", help="A column of texts; several are joined. A guess if left out."),
    ] = None,
    fields: Fields = None,
    store: Annotated[
        Path | None,
        typer.Option(help="A folder to keep the collection in, for the next time; a temporary one if left out."),
    ] = None,
    repository: Annotated[
        Path, typer.Option(help="The model repository; the default checkpoint is exported to it if it has no encoder.")
    ] = Path("model_repository"),
    bi_encoder: Annotated[
        str,
        typer.Option(
            help="The bi-encoder's folder or Hub id, or 'default' for the encoder behind the default checkpoint."
        ),
    ] = "default",
    device: Annotated[str, typer.Option(help="What encodes and searches: cpu, cuda, cuda:1 or auto.")] = "auto",
    port: Annotated[int, typer.Option(help="The page's port; a free one if left out.", min=0, max=65535)] = 0,
    opens_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser, where there is a display.")
    ] = True,
) -> None:
    """Try Tridex on a file of your own: serves it, and opens a page to search it, until Ctrl-C.

    The page shows ColBERT, a bi-encoder and BM25 side by side, the words that were found, where the time goes and what
    each codec costs. Server and page listen on this machine alone.
    """
    from tridex.client.cli.documents import declaration
    from tridex.playground.session import Choices, run

    with failing():
        run(
            Choices(
                path=path,
                id_column=id_column,
                text_columns=tuple(text_columns or ()),
                fields=declaration(fields or []),
                store=store,
                repository=repository,
                bi_encoder=bi_encoder,
                device=device,
                port=port,
                opens_browser=opens_browser,
            )
        )
