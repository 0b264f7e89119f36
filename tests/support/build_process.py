"""A build in a process of its own, to be killed: prints a line for every transaction that it encodes: its first text.

Arguments: source, store, repository, collection, codec. Transactions are small, and merged often.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any

from tridex.building import (
    Embedder,
    Progress,
    build_collection,
    document_reading,
    new_collection_spec,
)
from tridex.encoding import create_encoder, latest_version_dir, load_artifact
from tridex.index import Store
from tridex.index.storage import unfinished
from tridex.kernels import Codec
from tridex.protocol.sources import open_source

DOCUMENTS_PER_COMMIT = 7


def main(source: str, store: str, repository: str, collection: str, codec: str) -> None:
    artifact = load_artifact(latest_version_dir(Path(repository) / "encoder"))
    spec = new_collection_spec(artifact, Codec(codec))
    embedder = Embedder(artifact, create_encoder(artifact), document_reading(spec, artifact.manifest))

    def announced(texts: Iterable[str], windows: bool) -> Iterator[Any]:
        texts, again = tee(texts)
        for i, (text, array) in enumerate(zip(again, embedder(texts, windows), strict=False)):
            if not windows and not i:
                print("train", flush=True)
            elif windows and i % DOCUMENTS_PER_COMMIT == 0:
                print(f"encode {text}", flush=True)
            yield array

    unfinished._COMMITS_PER_FRAGMENT = 4
    print("start", flush=True)
    done = build_collection(
        open_source(Path(source)),
        Store(store),
        collection,
        spec,
        announced,
        progress=Progress(quiet=True),
        documents_per_commit=DOCUMENTS_PER_COMMIT,
    )
    print(f"done {done.documents} {done.resumed_after}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
