"""The command line's `index requantize`. Light to import: what requantizes is imported when it runs."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tridex.common import strict_json
from tridex.protocol import limits

from .build import check_names, end, one_of


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
    repository: Annotated[Path, typer.Option(help="The model repository; its tokenizer is read for pooling.")] = Path(
        "model_repository"
    ),
    store: Annotated[Path, typer.Option(help="The folder that holds the collections.")] = Path(".tridex/store"),
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished run of that name first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value when it is done.")] = False,
) -> None:
    """Make a collection of another one, in another codec or with pooled tokens, without encoding anything again.

    The source stays as it is. After a kill the same command goes on where it was.
    """
    from tridex.building import BuildError, Progress
    from tridex.building import requantize as run
    from tridex.encoding import ArtifactError
    from tridex.index import Store, TokenIndexError
    from tridex.kernels import Codec

    # A store's files are for their owner alone, as the server makes them.
    os.umask(0o077)
    started = time.perf_counter()
    try:
        check_names(target)
        wanted = Codec(one_of("--codec", codec, [known.value for known in Codec]))
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
    except KeyboardInterrupt:
        end("requantize", "stopped; the same command goes on from the last commit", 130)
    except (ArtifactError, BuildError, TokenIndexError, ValueError, OSError) as error:
        end("requantize", str(error), 1)
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(strict_json.dumps({**asdict(done), "seconds": seconds}))
        return
    typer.echo(
        f"Made {target} of the {done.documents:,} documents of {source} in {seconds:,.1f} s, "
        f"{done.bytes_per_document / 1000:,.1f} kB a document in {codec}"
    )
