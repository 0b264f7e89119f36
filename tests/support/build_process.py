"""A build as a process of its own, to be killed: a line on stdout for every transaction that it encodes.

Arguments: source, store, repository, collection, codec. Transactions are small, and merged often.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tridex.building import build_collection, local_encoder, open_source
from tridex.building.collection_specs import new_spec, reading
from tridex.building.progress import Progress
from tridex.encoding import latest_version_dir, load_artifact
from tridex.index import Store
from tridex.index.storage import unfinished
from tridex.kernels import Codec


def main(source: str, store: str, repository: str, collection: str, codec: str) -> None:
    artifact = load_artifact(latest_version_dir(Path(repository) / "encoder"))
    spec = new_spec(artifact, Codec(codec))
    encode = local_encoder(artifact, reading(spec, artifact.manifest), threads=1)

    def told(texts: Sequence[str], windows: bool) -> Iterator[Any]:
        print(f"encode {texts[0]} | {texts[-1]}", flush=True)
        yield from encode(texts, windows)

    unfinished._COMMITS_PER_FRAGMENT = 4
    print("start", flush=True)
    done = build_collection(
        open_source(Path(source)),
        Store(store),
        collection,
        spec,
        told,
        progress=Progress(quiet=True),
        documents_per_commit=7,
    )
    print(f"done {done.documents} {done.resumed_after}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
