"""`tridex stats`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from tridex.common.terminal.output import print_json, print_line, print_table

from .collections import print_collections
from .connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected

if TYPE_CHECKING:
    from tridex.client import ModelStatistics


def stats(as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S) -> None:
    """Show the collections, and what each stage of the server did, which a server with API keys does not say."""
    from tridex.client import PermissionDenied

    models: list[ModelStatistics] = []
    with connected(address, timeout) as client:
        collections = client.collections()
        with suppress(PermissionDenied):
            models = client.statistics()
    if as_json:
        print_json({"collections": collections, "models": models})
        return
    print_collections(collections)
    if not models:
        return
    print_table(
        ("model", "requests", "failed", "batches", "queue ms", "compute ms"),
        [
            (m.model, m.requests, m.failed, m.executions, m.mean_queue_us / 1000, m.mean_compute_us / 1000)
            for m in models
        ],
    )
    print_line("Milliseconds are means of one request since the model was loaded.")
