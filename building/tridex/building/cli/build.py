"""The command line's `index build`. Light to import: what builds is imported when it runs."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from tridex.common import strict_json
from tridex.protocol import limits, models
from tridex.protocol.parameters import LongDocuments


def build(
    source: Annotated[
        Path, typer.Argument(help="A .jsonl, .jsonl.gz or .parquet file, or a BEIR folder.", show_default=False)
    ],
    collection: Annotated[str, typer.Option(help="Name of the new collection.", show_default=False)],
    repository: Annotated[Path, typer.Option(help="The model repository, with an exported encoder.")] = Path(
        "model_repository"
    ),
    store: Annotated[Path, typer.Option(help="The folder that holds the collections.")] = Path(".tridex/store"),
    codec: Annotated[str, typer.Option(help="How the collection stores embeddings.")] = "float16",
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", help="A metadata field that filters can ask for, as NAME:TYPE; may be repeated."),
    ] = None,
    document_length: Annotated[
        int | None,
        typer.Option(min=1, help="Most tokens that the encoder reads at once; the checkpoint's own if left out."),
    ] = None,
    long_documents: Annotated[LongDocuments, typer.Option(help="What becomes of longer documents.")] = (
        LongDocuments.WINDOWS
    ),
    pooling_factor: Annotated[
        int,
        typer.Option(
            min=1,
            max=limits.MAX_POOLING_FACTOR,
            help="Keep one token embedding, the mean of similar ones, for this many.",
        ),
    ] = 1,
    alias: Annotated[str | None, typer.Option(help="An alias to set to the collection once it is finished.")] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an unfinished build of that name first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value when it is done.")] = False,
) -> None:
    """Build a collection from files, without a server. After a kill the same command goes on where it was.

    The encoder runs in this process. A server that follows the store serves the collection once it is finished.
    """
    from tridex.building import (
        BuildError,
        Embedder,
        Progress,
        build_collection,
        document_reading,
        new_collection_spec,
        open_source,
    )
    from tridex.encoding import ArtifactError, create_encoder, latest_version_dir, load_artifact
    from tridex.index import Store, TokenIndexError, declared_fields
    from tridex.kernels import Codec

    # A store's files are for their owner alone, as the server makes them.
    os.umask(0o077)
    started = time.perf_counter()
    try:
        check_names(collection, alias)
        artifact = load_artifact(latest_version_dir(repository / models.ENCODER.name))
        spec = new_collection_spec(
            artifact,
            Codec(one_of("--codec", codec, [known.value for known in Codec])),
            declared_fields(_declaration(fields or [])),
            document_length=document_length,
            long_documents=long_documents,
            pooling_factor=pooling_factor,
        )
        collections = Store(store)
        documents = open_source(source)
        if restart:
            collections.discard_build(collection)
        encoder = create_encoder(artifact, threads=os.cpu_count() or 1)
        embedder = Embedder(artifact, encoder, document_reading(spec, artifact.manifest))
        done = build_collection(documents, collections, collection, spec, embedder, progress=Progress())
        if alias is not None:
            collections.set_alias(alias, collection)
    except KeyboardInterrupt:
        end("build", "stopped; the same command goes on from the last commit", 130)
    except (ArtifactError, BuildError, TokenIndexError, ValueError, OSError) as error:
        end("build", str(error), 1)
    seconds = time.perf_counter() - started
    if as_json:
        typer.echo(strict_json.dumps({**asdict(done), "seconds": seconds}))
        return
    encoded = done.documents - done.resumed_after
    resumed = f" ({done.resumed_after:,} were there from an earlier run)" if done.resumed_after else ""
    passed_over = f", passed over {done.without_text:,} without text" if done.without_text else ""
    typer.echo(
        f"Built {collection} of {done.documents:,} documents{resumed} in {seconds:,.1f} s "
        f"({encoded / seconds:,.0f}/s), {done.bytes_per_document / 1000:,.1f} kB a document in {codec}{passed_over}"
    )


def check_names(*names: str | None) -> None:
    """Raises ValueError for what cannot be a collection's name."""
    for name in names:
        if name is not None and not limits.COLLECTION_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name; expected a name like {limits.COLLECTION_NAME.pattern}")


def _declaration(fields: list[str]) -> dict[str, str]:
    declared: dict[str, str] = {}
    for given in fields:
        name, colon, kind = given.rpartition(":")
        if not colon or name in declared:
            raise ValueError(f"--field is {given!r}; expected NAME:TYPE, each name once")
        declared[name] = kind
    return declared


def one_of(option: str, given: str, known: list[str]) -> str:
    """What was given for an option. Raises ValueError where it is not known."""
    if given not in known:
        raise ValueError(f"{option} is {given!r}; expected one of: {', '.join(known)}")
    return given


def end(command: str, message: str, status: int) -> NoReturn:
    """Ends a command below `tridex index`."""
    Console(stderr=True).print(Text.assemble((f"tridex index {command}: ", "red"), message), soft_wrap=True)
    raise typer.Exit(status)
