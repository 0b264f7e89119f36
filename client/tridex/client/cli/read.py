"""Commands that ask: search, rerank, encode."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.common.terminal.output import print_json, print_table, snippet
from tridex.protocol.limits import DEFAULT_TOP_K
from tridex.protocol.parameters import DEFAULT_MODE

from .connection import (
    ADDRESS,
    TIMEOUT_S,
    Address,
    Collection,
    Filters,
    Json,
    Timeout,
    connected,
    read_filters,
)

Query = Annotated[str, typer.Argument(help="What to look for, as text.", show_default=False)]


def search(
    collection: Collection,
    query: Query,
    top_k: Annotated[int, typer.Option("--top-k", "-k", help="Hits to show.")] = DEFAULT_TOP_K,
    mode: Annotated[
        str,
        typer.Option(help="Rank by maxsim, by bm25, by both fused (hybrid), or bm25's candidates by maxsim (rerank)."),
    ] = DEFAULT_MODE,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Let MaxSim score candidates by centroids only, not every document.")
    ] = False,
    n_probe: Annotated[int | None, typer.Option(help="With --approximate: centroids a query token probes.")] = None,
    n_candidates: Annotated[int | None, typer.Option(help="Documents that the first stage hands on.")] = None,
    maxsim_weight: Annotated[
        float | None, typer.Option(help="Hybrid by a weighted sum of scores: MaxSim's share, 0 to 1.")
    ] = None,
    filters: Filters = None,
    min_version: Annotated[
        int | None, typer.Option(help="See at least this store version: what `upsert --json` printed.")
    ] = None,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Find the documents that score best for a query."""
    with connected(address, timeout) as client:
        result = client.search(
            collection,
            query,
            top_k=top_k,
            mode=mode,
            exact=not approximate,
            n_probe=n_probe,
            n_candidates=n_candidates,
            maxsim_weight=maxsim_weight,
            filters=read_filters(filters),
            min_version=min_version,
        )
    if as_json:
        print_json(result)
        return
    rows = [(rank, hit.score, hit.id, snippet(hit.text)) for rank, hit in enumerate(result, 1)]
    print_table(("rank", "score", "id", "text"), rows, f"{len(rows)} hits in {collection}, version {result.version}")


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
    given = documents or ids or []
    rows = [(rank, r.relevance_score, r.index, snippet(given[r.index])) for rank, r in enumerate(results, 1)]
    print_table(("rank", "score", "index", "text" if documents else "id"), rows)


def encode(
    texts: Annotated[list[str], typer.Argument(help="Texts to encode.", show_default=False)],
    document: Annotated[bool, typer.Option("--document", help="Encode as documents instead of queries.")] = False,
    as_json: Json = False,
    address: Address = ADDRESS,
    timeout: Timeout = TIMEOUT_S,
) -> None:
    """Show the token embeddings of texts; with --json in full."""
    with connected(address, timeout) as client:
        embeddings = client.encode_document(texts) if document else client.encode_query(texts)
    if as_json:
        print_json([array.tolist() for array in embeddings])
        return
    rows = [(len(array), array.shape[1], snippet(text)) for text, array in zip(texts, embeddings, strict=True)]
    print_table(("tokens", "dim", "text"), rows)
