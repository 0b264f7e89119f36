"""The command line's `index build`. Light to import: what builds is imported when it runs."""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tridex.building.errors import BuildError
from tridex.common.terminal.output import print_json, print_line
from tridex.protocol import limits, models
from tridex.protocol.columns import Columns
from tridex.protocol.parameters import LongDocuments

from .common import REPOSITORY, STORE, Json, Restart, StoreFolder, check_names, codec_of, making_a_collection


def build(
    source: Annotated[
        Path,
        typer.Argument(help="A .jsonl, .json, .csv, .tsv or .parquet file, or a BEIR folder.", show_default=False),
    ],
    collection: Annotated[str, typer.Option(help="Name of the new collection.", show_default=False)],
    repository: Annotated[Path, typer.Option(help="The model repository, with an exported encoder.")] = REPOSITORY,
    store: StoreFolder = STORE,
    codec: Annotated[str, typer.Option(help="How the collection stores embeddings.")] = "float16",
    id_column: Annotated[str | None, typer.Option("--id", help="The column of ids; _id or id if left out.")] = None,
    text_columns: Annotated[
        list[str] | None,
        typer.Option("--text", help="A column of texts; several are joined. title and text if left out."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            help="A metadata field that filters can ask for, as NAME:TYPE; may be repeated. Inferred if left out.",
        ),
    ] = None,
    infer: Annotated[bool, typer.Option(help="Infer the fields from all documents if none is declared.")] = True,
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
    device: Annotated[
        str,
        typer.Option(
            help="What encodes: cpu, cuda, cuda:1 or auto, which is the first GPU where it can be used, and the CPU "
            "otherwise."
        ),
    ] = "auto",
    alias: Annotated[str | None, typer.Option(help="An alias to set to the collection once it is finished.")] = None,
    restart: Restart = False,
    as_json: Json = False,
) -> None:
    """Build a collection from files, without a server. After a kill the same command continues where it was.

    The encoder runs in this process. A server that follows the store serves the collection once it is finished.
    """
    from tridex.building import document_reading, new_collection_spec
    from tridex.encoding import latest_version_dir, load_artifact
    from tridex.index import Store, declared_fields
    from tridex.protocol.sources import open_source

    started = time.perf_counter()
    with making_a_collection():
        check_names(collection, alias)
        artifact = load_artifact(latest_version_dir(repository / models.ENCODER.name))
        spec = new_collection_spec(
            artifact,
            codec_of(codec),
            declared_fields(_declaration(fields or [])) if fields or not infer else None,
            document_length=document_length,
            long_documents=long_documents,
            pooling_factor=pooling_factor,
        )
        collections = Store(store)
        documents = open_source(source, Columns(id_column, text_columns or ()))
        # Not before: importing torch takes seconds, which nobody waits for who has asked wrongly.
        from tridex.building import Embedder, Progress, build_collection
        from tridex.common.device import resolve_device
        from tridex.encoding import create_encoder, load_cuda_provider

        if restart:
            collections.discard_build(collection)
        encoder = create_encoder(artifact, resolve_device(device, load=load_cuda_provider), threads=os.cpu_count() or 1)
        embedder = Embedder(artifact, encoder, document_reading(spec, artifact.manifest))
        done = build_collection(documents, collections, collection, spec, embedder, progress=Progress())
        if alias is not None:
            collections.set_alias(alias, collection)
    seconds = time.perf_counter() - started
    if as_json:
        print_json({**asdict(done), "seconds": seconds})
        return
    encoded = done.documents - done.resumed_after
    resumed = f" ({done.resumed_after:,} of them by an earlier run)" if done.resumed_after else ""
    skipped = f", skipped {done.without_text:,} without text" if done.without_text else ""
    print_line(
        f"Built {collection} of {done.documents:,} documents{resumed} in {seconds:,.1f} s "
        f"({encoded / seconds:,.0f}/s), {done.bytes_per_document / 1000:,.1f} kB per document in {codec}{skipped}"
    )
    shown = ", ".join(f"{name}:{kind}" for name, kind in done.fields.items())
    print_line(f"Fields that filters can ask for: {shown or 'none'}")


def _declaration(fields: list[str]) -> dict[str, str]:
    declared: dict[str, str] = {}
    for given in fields:
        name, colon, kind = given.rpartition(":")
        if not colon or name in declared:
            raise BuildError(f"--field is {given!r}; expected NAME:TYPE, each name once")
        declared[name] = kind
    return declared
