"""`tridex search`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tridex.client.rendering import explanations_html, explanations_svg
from tridex.client.search_options import SEARCH_OPTIONS, SearchOptions
from tridex.common.terminal.output import print_json, print_line, print_table, snippet

from .connection import (
    ADDRESS,
    TIMEOUT_S,
    Address,
    Collection,
    Filters,
    Json,
    Query,
    Timeout,
    connected,
    read_filters,
)
from .explained_hits import print_explained


def _with_search_options(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, whose `**options` Typer sees as one option for each of SearchOptions that has help."""
    own = [p for p in signature(command, eval_str=True).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    types = get_type_hints(SearchOptions)
    options = []
    for name, option in SEARCH_OPTIONS.items():
        if option.help:
            names = (f"--{name.replace('_', '-')}", option.short) if option.short else ()
            default = typer.Option(option.default, *names, help=option.help)
            options.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=types[name]))
    arguments = [p for p in own if p.kind is not Parameter.KEYWORD_ONLY]
    command.__signature__ = Signature([*arguments, *options, *own[len(arguments) :]])  # type: ignore[attr-defined]
    return command


@_with_search_options
def search(
    collection: Collection,
    query: Query,
    *,
    filters: Filters = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show which words the best hits were found by.")] = False,
    page: Annotated[
        Path | None,
        typer.Option(help="Write the explained hits to this file: a page, or an image where it ends in .svg."),
    ] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
    **options: Any,
) -> None:
    """Find the documents that score best for a query."""
    with connected(address, timeout) as client:
        options["explain"] = explain or page is not None
        result = client.search(collection, query, filters=read_filters(filters), **options)
        if page is not None:
            render = explanations_svg if page.suffix == ".svg" else explanations_html
            page.write_text(render(query, result), encoding="utf-8")
    if as_json:
        print_json(result)
        return
    if explain:
        print_explained(query, result)
        print_line(f"{len(result)} hits in {collection}, version {result.version}")
        return
    rows = [(rank, hit.score, hit.id, snippet(hit.text)) for rank, hit in enumerate(result, 1)]
    print_table(("rank", "score", "id", "text"), rows, prose=("id", "text"))
    print_line(f"{len(rows)} hits in {collection}, version {result.version}")
