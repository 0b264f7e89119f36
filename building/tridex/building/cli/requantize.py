"""The command line's `index requantize`. Light to import: what requantizes is imported when it runs."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tridex.common.terminal.output import print_json, print_line
from tridex.protocol import limits

from .common import REPOSITORY, STORE, Json, Restart, StoreFolder, check_names, codec_of, making_a_collection


def requantize(
    source: Annotated[str, typer.Argument(help="A collection in float32 or float16.", show_default=False)],
    target: Annotated[str, typer.Argument(help="Name of the new collection.", show_default=False)],
    codec: Annotated[str, typer.Option(help="How the new collection stores embeddings.", show_default=False)],
    pooling_factor: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=limits.MAX_POOLING_FACTOR,
            help="Keep one token embedding, the mean of similar ones, for this many; the source's own if left out.",
        ),
    ] = None,
    repository: Annotated[
        Path, typer.Option(help="The model repository; its tokenizer is read for pooling.")
    ] = REPOSITORY,
    store: StoreFolder = STORE,
    restart: Restart = False,
    as_json: Json = False,
) -> None:
    """Make a collection of another one, in another codec or with pooled tokens, without encoding anything again.

    The source stays as it is. After a kill the same command continues where it was.
    """
    from tridex.building import Progress
    from tridex.building import requantize as run
    from tridex.index import Store

    started = time.perf_counter()
    with making_a_collection():
        check_names(target)
        wanted = codec_of(codec)
        collections = Store(store)
        if restart:
            collections.discard_build(target)
        done = run(
            collections,
            source,
            target,
            wanted,
            repository=repository,
            progress=Progress(),
            pooling_factor=pooling_factor,
        )
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**asdict(done), "seconds": seconds})
        return
    print_line(
        f"Made {target} of the {done.documents:,} documents of {source} in {seconds:,.1f} s, "
        f"{done.bytes_per_document / 1000:,.1f} kB per document in {codec}"
    )
