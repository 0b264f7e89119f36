"""`tridex encode`."""

from __future__ import annotations

from typing import Annotated

import typer

from tridex.common.terminal.output import print_json, print_table, snippet

from .connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected


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
    print_table(("tokens", "dim", "text"), rows, prose=("text",))
