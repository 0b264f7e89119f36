"""The command that shows what the server holds and where its time goes."""

from __future__ import annotations

from .connection import ADDRESS, TIMEOUT_S, Address, Json, Timeout, connected
from .output import print_json, print_table

_FINGERPRINT_CHARACTERS = 12


def stats(as_json: Json = False, address: Address = ADDRESS, timeout: Timeout = TIMEOUT_S) -> None:
    """Show the collections, and what each stage of the server did."""
    with connected(address, timeout) as client:
        collections, models = client.collections(), client.statistics()
    if as_json:
        print_json({"collections": collections, "models": models})
        return
    print_table(
        ("documents", "version", "dim", "codec", "encoder", "collection"),
        [(c.count, c.version, c.dim, c.codec, c.fingerprint[:_FINGERPRINT_CHARACTERS], c.name) for c in collections],
    )
    print_table(
        ("requests", "failed", "batches", "queue ms", "compute ms", "model"),
        [
            (m.requests, m.failed, m.executions, m.mean_queue_us / 1000, m.mean_compute_us / 1000, m.model)
            for m in models
        ],
        "means of one request since the model was loaded",
    )
