"""`tridex rerank`."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.common.terminal.output import print_json, print_table, snippet

from .connection import ADDRESS, TIMEOUT_S, Address, Json, Query, Timeout, connected


def rerank(
    query: Query,
    documents: Annotated[list[str] | None, typer.Argument(help="Texts to put in order.", show_default=False)] = None,
    collection: Annotated[str | None, typer.Option(help="Take stored documents of this collection.")] = None,
    ids: Annotated[list[str] | None, typer.Option("--id", help="A stored document; may be repeated.")] = None,
    top_n: Annotated[int | None, typer.Option(help="Show only the best.")] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Put texts, or stored documents, in the order of their scores for a query."""
    with connected(address, timeout) as client:
        results = client.rerank(query, documents or None, collection=collection, ids=ids or None, top_n=top_n)
    if as_json:
        print_json(results)
        return
    given, name = (documents, "text") if documents else (ids or [], "id")
    rows = [(rank, r.relevance_score, r.index, snippet(given[r.index])) for rank, r in enumerate(results, 1)]
    print_table(("rank", "score", "index", name), rows, prose=(name,))
