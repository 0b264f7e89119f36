"""Bulk build: the collection is what upserts would have written, whatever interrupts the build."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from builds import WORDS, build, contents, rows_of, write
from queries import embed_query
from sentence_transformers import MultiVectorEncoder
from service_requests import answers, upsert
from typer.testing import CliRunner

from tridex.building import BuildError, Embedder, new_collection_spec
from tridex.building.codebook_training import centroids
from tridex.client.cli import create_app
from tridex.common import TridexError
from tridex.encoding import Artifact, latest_version_dir, load_artifact
from tridex.index import (
    CollectionExistsError,
    CollectionInUseError,
    CollectionNotFoundError,
    Document,
    FieldType,
    Store,
)
from tridex.kernels import Codec, decode
from tridex.protocol.corpus import CorpusError
from tridex.protocol.parameters import LongDocuments
from tridex.protocol.sources import open_source
from tridex.serving.backend.service import Context, Request, RequestError
from tridex.serving.models.ingest import IngestService
from tridex.serving.models.search import SearchService

PROCESS = Path(__file__).parent.parent / "support" / "build_process.py"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"codec": Codec.INT8, "document_length": 24, "pooling_factor": 2, "fields": {"n": FieldType.INT}},
        {"codec": Codec.FLOAT32, "long_documents": LongDocuments.TRUNCATE},
    ],
)
def test_a_built_collection_is_an_upserted_one(
    context: Context, artifact: Artifact, tmp_path: Path, options: dict[str, Any]
) -> None:
    rows = rows_of(45)
    store = Store(context.store)
    build(write(tmp_path / "rows.jsonl", rows), store, artifact, **options)
    store.create("upserted", new_collection_spec(artifact, **options))
    ingest = IngestService(context)
    for row in rows:
        request = upsert("upserted", {row["_id"]: row["text"]})
        request.inputs["METADATA"] = np.array([[json.dumps(row["metadata"]).encode()]], object)  # type: ignore[index]
        assert not isinstance(answers(ingest, [request])[0], RequestError)
    built, upserted = store.open("c"), store.open("upserted")
    assert contents(built) == contents(upserted) and len(contents(built)) == 45
    assert built.spec == upserted.spec


@pytest.mark.parametrize("codec", [Codec.RESIDUAL4, Codec.RESIDUAL2])
def test_a_residual_collection_is_served(context: Context, artifact: Artifact, tmp_path: Path, codec: Codec) -> None:
    rows = rows_of(60)
    store = Store(context.store)
    build(write(tmp_path / "rows.jsonl", rows), store, artifact, codec=codec)
    before = contents(store.open("c"))
    # A normal write encodes with the collection's codebook: the same text, the same codes.
    ingest, search = IngestService(context), SearchService(context)
    (written,) = answers(ingest, [upsert("c", {"d7": rows[7]["text"], "new": rows[7]["text"]})])
    assert not isinstance(written, RequestError)
    collection = store.open("c")
    after = contents(collection)
    codes = collection.dataset.schema.names.index("codes")
    assert after["d7"][codes] == after["new"][codes] == before["d7"][codes]

    query = embed_query(artifact, "where is Paris?")
    request = Request(
        {"QUERY_EMBEDDINGS": query[None]}, {"collection": "c", "top_k": 61, "min_version": collection.version}
    )
    (found,) = answers(search, [request])
    search.close()
    assert not isinstance(found, RequestError)
    decoded = {}
    for key, row in after.items():
        stored = np.frombuffer(row[codes], np.uint8).reshape(-1, codec.bytes_per_token(16))
        decoded[key] = torch.from_numpy(decode(codec, stored, collection.codebook))
    scores = dict(zip([key.decode() for key in found["IDS"][0]], found["SCORES"][0].tolist(), strict=True))
    expected = {
        key: float((torch.from_numpy(query) @ d.T).max(dim=1).values.mean()) for key, d in decoded.items() if len(d)
    }
    assert scores == pytest.approx(expected, abs=0.5 / 127 * 4)  # A query token is rounded to int8, of 16 dimensions.


def test_a_long_document_scores_as_its_windows_together(
    context: Context, artifact: Artifact, tmp_path: Path, checkpoint: Path
) -> None:
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    tokenizer = artifact.tokenizer()
    frame = int(tokenizer.documents([""]).attention_mask.sum())
    single = [word for word in WORDS if int(tokenizer.documents([word]).attention_mask.sum()) == frame + 1]
    text = " ".join(random.Random(1).choices(single, k=100))
    length = 24
    size, shared = length - frame, (length - frame) // 8
    pieces = [text.split()[start : start + size] for start in range(0, 100 - shared, size - shared)]
    assert len(pieces) > 3
    windows = np.concatenate([np.asarray(e) for e in model.encode_document([" ".join(piece) for piece in pieces])])

    store = Store(context.store)
    rows = [{"id": "long", "text": text}, *rows_of(3)]
    build(write(tmp_path / "rows.jsonl", rows), store, artifact, codec=Codec.FLOAT32, document_length=length)
    search = SearchService(context)
    query = embed_query(artifact, "where is Paris?")
    (found,) = answers(search, [Request({"QUERY_EMBEDDINGS": query[None]}, {"collection": "c"})])
    search.close()
    assert not isinstance(found, RequestError)
    scores = dict(zip([key.decode() for key in found["IDS"][0]], found["SCORES"][0].tolist(), strict=True))
    assert scores["long"] == pytest.approx(float((query @ windows.T).max(axis=1).mean()), abs=1e-4)
    (document,) = store.open("c").get(["long"])
    assert document is not None and document.text == text


def test_a_killed_build_goes_on_where_it_was(repository: Path, artifact: Artifact, tmp_path: Path) -> None:
    rows = rows_of(400)
    source = write(tmp_path / "rows.jsonl", rows)
    store = Store(tmp_path / "store")
    rng = random.Random(5)
    committed = 0
    # At the start, after the codebook, and at commits, where small fragments are merged meanwhile.
    for lines in (1, 2, 3, 6, 5):
        process = subprocess.Popen(
            [sys.executable, str(PROCESS), str(source), str(store.folder), str(repository), "c", "residual2"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(lines)]
        time.sleep(rng.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.read().splitlines()
        process.wait()
        encoded = [line.split()[1] for line in seen if line.startswith("encode")]
        if committed:
            assert encoded[0] == str(committed), "the first document encoded is the first that was not committed"
        unfinished = store.resume_build("c")
        if unfinished is not None:
            with unfinished:
                committed = unfinished.collection.count()
                assert set(contents(unfinished.collection)) == {row["_id"] for row in rows[:committed]}
        with pytest.raises(CollectionNotFoundError):
            store.open("c")
    assert 0 < committed < 400
    done = build(source, store, artifact, codec=Codec.RESIDUAL2)
    assert (done.documents, done.resumed_after) == (400, committed)
    interrupted = store.open("c")
    build(source, Store(tmp_path / "other"), artifact, codec=Codec.RESIDUAL2)
    assert contents(interrupted) == contents(Store(tmp_path / "other").open("c"))


class InterruptedBuildError(Exception):
    """What the tests interrupt a build with."""


@pytest.fixture
def interrupted(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Store]]:
    """A source of 30 documents, and a store with a build of it that stopped after 20."""
    embed = Embedder.__call__

    def twice(*arguments: Any) -> Any:
        yield from islice(embed(*arguments), 20)
        raise InterruptedBuildError

    source, store = write(tmp_path / "rows.jsonl", rows_of(30)), Store(tmp_path / "store")
    with monkeypatch.context() as patched, pytest.raises(InterruptedBuildError):
        patched.setattr(Embedder, "__call__", twice)
        build(source, store, artifact)
    yield source, store


def test_an_unfinished_build_is_seen_by_nobody(context: Context, interrupted: tuple[Path, Store]) -> None:
    _, store = interrupted
    assert store.names() == [] and store.aliases() == {}
    with pytest.raises(CollectionNotFoundError, match="there are: none"):
        store.open("c")
    with pytest.raises(CollectionExistsError, match="'c' is being built"):
        store.check_free("c")
    # What a server does meanwhile leaves it alone.
    (refused,) = answers(IngestService(replace(context, store=store.folder)), [upsert("c", {"a": "text"})])
    assert isinstance(refused, RequestError) and "being built" in str(refused)
    store.create("other", new_collection_spec(load_artifact(latest_version_dir(context.repository / "encoder"))))
    store.drop("other")
    unfinished = store.resume_build("c")
    assert unfinished is not None
    with unfinished, pytest.raises(CollectionInUseError, match="by another process"):
        store.resume_build("c")
    assert unfinished.collection.count() == 20


def test_only_the_same_build_goes_on(artifact: Artifact, interrupted: tuple[Path, Store], tmp_path: Path) -> None:
    source, store = interrupted
    with pytest.raises(BuildError, match=r"begun with another codec, pooling_factor; .*--restart"):
        build(source, store, artifact, codec=Codec.INT8, pooling_factor=2)
    with pytest.raises(BuildError, match=r"begun from another source; .*--restart"):
        build(write(tmp_path / "others.jsonl", rows_of(30, seed=1)), store, artifact)
    # The place of the file says nothing, its documents do.
    done = build(source.rename(tmp_path / "moved.jsonl"), store, artifact)
    assert (done.documents, done.resumed_after) == (30, 20)
    # What is built already is left as it is, and not taken for another build.
    version = store.open("c").version
    again = build(tmp_path / "moved.jsonl", store, artifact)
    assert (again.documents, again.resumed_after, again.version) == (30, 30, version)
    with pytest.raises(CollectionExistsError, match="'c' exists already"):
        build(tmp_path / "moved.jsonl", store, artifact, codec=Codec.INT8)
    with pytest.raises(CollectionExistsError, match="'c' exists already"):
        build(tmp_path / "others.jsonl", store, artifact)


def test_an_unfinished_build_can_be_discarded(artifact: Artifact, interrupted: tuple[Path, Store]) -> None:
    source, store = interrupted
    store.discard_build("c")
    store.discard_build("c")
    assert list((store.folder / "collections").iterdir()) == []
    assert build(source, store, artifact, codec=Codec.INT8).resumed_after == 0


def test_every_kind_of_source_gives_the_same_documents(artifact: Artifact, tmp_path: Path) -> None:
    rows = rows_of(12)
    folder = tmp_path / "beir"
    folder.mkdir()
    write(folder / "corpus.jsonl", [{**row, "title": None} for row in rows] + [{"_id": "empty", "text": " "}])
    flat = [{"id": row["_id"], "text": row["text"], "n": row["metadata"]["n"]} for row in rows]
    folder_of_files = tmp_path / "files"
    folder_of_files.mkdir()
    pq.write_table(pa.Table.from_pylist(flat[:5]), folder_of_files / "0.parquet")
    pq.write_table(pa.Table.from_pylist(flat[5:]), folder_of_files / "1.parquet")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    store = Store(tmp_path / "store")
    sources = [write(tmp_path / "rows.jsonl", rows), folder, folder_of_files, tmp_path / "rows.parquet"]
    done = [build(source, store, artifact, f"c{i}") for i, source in enumerate(sources)]
    assert [open_source(source).count() for source in sources] == [12, 13, 12, 12]
    assert [summary.without_text for summary in done] == [0, 1, 0, 0]
    first = contents(store.open("c0"))
    assert len(first) == 12 and all(contents(store.open(f"c{i}")) == first for i in range(1, 4))


def test_fields_are_inferred_from_every_document(artifact: Artifact, tmp_path: Path) -> None:
    rows = [{**row, "metadata": {"n": i if i else 0.5, "when": "2020-01-01"}} for i, row in enumerate(rows_of(12))]
    store = Store(tmp_path / "store")
    done = build(write(tmp_path / "rows.jsonl", rows), store, artifact)
    collection = store.open("c")
    assert collection.spec.fields == {"n": FieldType.FLOAT, "when": FieldType.DATETIME}
    assert collection.count({"field": "n", "operator": "<", "value": 2}) == 2
    assert build(tmp_path / "rows.jsonl", store, artifact).resumed_after == done.documents, "it is the same build"
    build(tmp_path / "rows.jsonl", store, artifact, "none", fields={})
    assert store.open("none").spec.fields == {}
    rows[7]["metadata"]["n"] = "seven"
    with pytest.raises(BuildError, match=r"line 8: metadata field 'n' of document 'd7' is 'seven'; expected a finite"):
        build(write(tmp_path / "bad.jsonl", rows), store, artifact, "bad")


GOOD = b'{"id": "1", "text": "a"}'
PACKED = gzip.compress(GOOD + b"\n", mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "2"}', r"rows.jsonl, line 2: no text; expected one, or --text with another name of: id"),
        (b'{"text": "b"}', r"line 2: no _id or id; expected one, or --id with another name of: text"),
        (b'{"id": "2", "text": "b"', r"line 2: expected JSON in UTF-8"),
        (b'{"id": "2", "text": "\xff"}', r"line 2: expected JSON in UTF-8"),
        (b"[" * 100_000, r"line 2: expected JSON in UTF-8"),
        (b'{"id": "2", "text": "\\ud800"}', r"line 2: text is .*expected valid Unicode"),
        (b'{"id": "", "text": "b"}', r"line 2: id is '', 0 bytes; expected 1 to 1024"),
        (b'{"id": "' + b"x" * 100_000 + b'", "text": "b"}', r"line 2: id is 'xxx.*, 100000 bytes; expected 1 to 1024"),
        (b'{"id": "2", "text": "' + b"x" * 300_000 + b'"}', r"line 2: text is .*300000 bytes; expected 1 to 262144"),
        (b'\n{"id": "1", "text": "b"}', r"line 3: id '1' was there before \(.*rows.jsonl, line 1\)"),
        (b'{"id": "2", "text": "b", "metadata": [1]}', r"line 2: metadata is \[1\]; expected an object"),
        (b'{"id": "2", "text": "b", "metadata": {"x": NaN}}', r"line 2: metadata is .*a JSON object"),
        (
            b'{"id": "2", "text": "b", "metadata": {"x": ' + b"[" * 129 + b"]" * 129 + b"}}",
            r"line 2: metadata is .*a JSON object \(nested deeper than 128 levels\)",
        ),
        (b'{"id": "2", "text": "b", "metadata": {"n": "x"}}', r"line 2: metadata field 'n' of document '2' is 'x'"),
        (b'{"id": 2.5, "text": "b"}\n' * 12, r"12 of 13 rows cannot be indexed:\n(.*\n)+.*and 2 more"),
    ],
)
def test_bad_rows_are_named_before_anything_is_encoded(
    artifact: Artifact, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(GOOD + b"\n" + content)
    store = Store(tmp_path / "store")
    with pytest.raises(BuildError, match=message) as refused:
        build(tmp_path / "rows.jsonl", store, artifact, fields={"n": FieldType.INT})
    assert len(str(refused.value)) < 4000
    assert not (tmp_path / "store" / "collections").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.xml", b"id,text", r"rows.xml: expected a .jsonl, .json, .csv, .tsv or .parquet file"),
        ("rows.parquet", b"id,text", r"rows.parquet: expected a Parquet file"),
        ("rows.parquet", b"PAR1" * 9, r"rows.parquet: expected a Parquet file"),
        *(
            ("rows.jsonl.gz", content, rf"rows.jsonl.gz, after line {line}: expected a whole gzip file \({reason}")
            for content, line, reason in (
                (b"\x1f\x8b\x08", 0, "Compressed file ended"),
                (b"plain", 0, "Not a gzipped file"),
                (PACKED[:-4], 1, "Compressed file ended"),
                (PACKED[:-8] + bytes(8), 1, "CRC check failed"),
                (PACKED + b"x", 1, "Not a gzipped file"),
            )
        ),
        ("rows.jsonl", b"\n\n", r"0 rows and no document with text"),
        ("rows.jsonl", b'{"id": "1", "text": ""}', r"1 rows and no document with text"),
    ],
)
def test_a_source_that_is_none(artifact: Artifact, tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TridexError, match=message):
        build(tmp_path / name, Store(tmp_path / "store"), artifact)


def test_corrupt_parquet_files_name_the_row(artifact: Artifact, tmp_path: Path) -> None:
    path, store = tmp_path / "rows.parquet", Store(tmp_path / "store")

    def refusal(table: pa.Table, spoil: int | None = None) -> str:
        pq.write_table(table, path, row_group_size=300, compression="gzip")
        if spoil is not None:
            content = bytearray(path.read_bytes())
            content[spoil : spoil + 50] = bytes(50)
            path.write_bytes(content)
        with pytest.raises(TridexError) as refused:
            build(path, store, artifact)
        return str(refused.value)

    ids = [str(i) for i in range(600)]
    noise = [random.Random(i).randbytes(100).hex() for i in range(600)]
    # Of the first row group alone, so that its place is known.
    assert f"{path}, after row 0: expected a whole Parquet file (" in refusal(
        pa.table({"id": ids, "text": noise}), 2000
    )

    ok = pa.array([b"ok", b"\xff", b"ok"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, ok.buffers())
    message = refusal(pa.table({"id": ["1", "2", "3"], "text": text}))
    assert f"1 of 3 rows cannot be indexed:\n  {path}, row 2: expected values that Python can hold ('utf-8'" in message
    far = pa.table({"id": ["1", "2"], "text": ["a", "b"], "when": pa.array([0, 10**15], pa.timestamp("ms"))})
    assert f"{path}, row 2: expected values that Python can hold (date value out of range)" in refusal(far)
    twice = pa.table({"id": ["1", "2", "1"], "text": ["a", "b", "c"]})
    assert f"{path}, row 3: id '1' was there before ({path}, row 1); expected distinct ids" in refusal(twice)
    double = pa.table([pa.array(["1"]), pa.array(["2"]), pa.array(["t"])], names=["id", "id", "text"])
    assert "has the columns ['id', 'id', 'text']; expected distinct ones" in refusal(double)


def test_sources_without_what_a_document_needs(artifact: Artifact, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "body": ["b"]}), tmp_path / "rows.parquet")
    with pytest.raises(CorpusError, match=r"has the columns \['id', 'body'\]; expected text, or --text with another"):
        build(tmp_path / "rows.parquet", Store(tmp_path / "store"), artifact)
    pq.write_table(pa.table({"id": ["1", "2"], "text": ["a", "b"], "raw": [None, b"x"]}), tmp_path / "rows.parquet")
    with pytest.raises(BuildError, match=r"rows.parquet, row 2: metadata is .*; expected a JSON object"):
        build(tmp_path / "rows.parquet", Store(tmp_path / "store"), artifact)
    for missing in (tmp_path / "nowhere", tmp_path):
        (tmp_path / "rows.parquet").unlink(missing_ok=True)
        with pytest.raises(CorpusError, match=r"expected a \.jsonl"):
            build(missing, Store(tmp_path / "store"), artifact)


def test_the_number_of_centroids_grows_with_the_root_of_the_tokens() -> None:
    assert [centroids(tokens, 1 << 30) for tokens in (1, 100, 10_000, 1_000_000, 1 << 40)] == [
        16,
        128,
        1024,
        8192,
        65536,
    ]
    assert centroids(1_000_000, 39 * 100) == 64 and centroids(1, 1) == 1


def test_a_csv_is_built_on_the_command_line(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.umask", lambda _: 0)  # The command's is the process's.
    source, store = tmp_path / "films.csv", Store(tmp_path / "store")
    source.write_text("key,name,year,plot,country\n7,Alien,1979,A crew is hunted,UK\n8,Arrival,2016,Ships land,US\n")

    def run(*options: object) -> str:
        places = ("--repository", repository, "--store", tmp_path / "store", "--device", "cpu", "--json")
        result = CliRunner().invoke(create_app(), ["index", "build", *map(str, (source, *places, *options))])
        assert result.exit_code == 0, result.output
        return result.stdout

    columns = ("--id", "key", "--text", "name", "--text", "plot")
    declared = ("--field", "year:int", "--field", "country:str", "--codec", "int8", "--alias", "films")
    done = json.loads(run("--collection", "declared", *columns, *declared))
    assert (done["documents"], done["fields"]) == (2, {"year": "int", "country": "str"})
    built = store.open("declared")
    assert store.aliases() == {"films": "declared"}
    assert (built.spec.fields, built.spec.codec) == ({"year": FieldType.INT, "country": FieldType.STR}, Codec.INT8)
    assert built.get(["7", "8"]) == [
        Document("7", "Alien A crew is hunted", {"year": 1979, "country": "UK"}),
        Document("8", "Arrival Ships land", {"year": 2016, "country": "US"}),
    ]
    for name, options, fields in (
        ("one", ("--field", "year:float"), {"year": "float"}),
        ("inferred", (), {"year": "int", "country": "str"}),
        ("none", ("--no-infer",), {}),
    ):
        assert json.loads(run("--collection", name, *columns, *options))["fields"] == fields
