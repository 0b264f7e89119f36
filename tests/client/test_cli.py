"""The command line against a server on the wire: tables for people, pure JSON for programs, one line for errors."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import threading
from contextlib import contextmanager
from importlib.metadata import EntryPoint, version
from pathlib import Path
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tomllib
from packaging.requirements import Requirement
from typer.testing import CliRunner

from tridex.client.cli import create_app, documents, extensions

LINES = [
    {"_id": "1", "title": "Ti", "text": "one", "metadata": {"n": 1}},
    {"id": "2", "text": "two"},
    {"_id": "3", "title": "", "text": ""},
    {"_id": "4", "title": "only a title", "text": ""},
]


@pytest.fixture
def run(triton, monkeypatch):
    """Runs `tridex ARGUMENTS` against the fake server."""
    monkeypatch.setenv("TRIDEX_ADDRESS", triton.address)
    return lambda *arguments, **options: CliRunner().invoke(create_app(), [str(a) for a in arguments], **options)


@pytest.fixture
def written(triton):
    """What arrived to be written: (id, text, metadata), and the parameters of the last request."""
    rows: list[tuple[str, str, dict]] = []

    def answer(request):
        if request.model == "catalog":
            return {"ROWS": [['{"name": "docs", "fields": {"n": "int"}}']]}
        columns = ([cell.decode() for (cell,) in request.inputs[name]] for name in ("ID", "TEXT", "METADATA"))
        rows.extend((i, text, json.loads(metadata)) for i, text, metadata in zip(*columns, strict=True))
        return {"VERSION": np.full((len(request.inputs["ID"]), 1), len(triton.requests))}

    triton.answer = answer
    return rows


def jsonl(rows):
    return "\n".join(json.dumps(row) for row in rows)


EXPECTED = [("1", "Ti one", {"n": 1}), ("2", "two", {}), ("4", "only a title", {})]


@pytest.mark.parametrize("kind", ["docs.jsonl", "docs.jsonl.gz", "corpus.jsonl", "corpus.jsonl.gz"])
def test_index(run, triton, written, tmp_path, kind):
    file = tmp_path / kind
    content = (jsonl(LINES) + "\n\n").encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    path = tmp_path if "corpus" in kind else file
    result = run("index", "add", path, "--collection", "docs", "--batch-size", 2, "--codec", "int8")
    assert result.exit_code == 0, result.output
    assert written == EXPECTED
    writes = [request for request in triton.requests if request.model == "ingest"]
    assert writes[0].parameters == {"collection": "docs", "operation": "upsert", "codec": "int8"}
    assert [len(request.inputs["ID"]) for request in writes] == [2, 1]
    assert (
        "documents to docs in" in result.stdout
        and "n:int" in result.stdout
        and "1 skipped without text" in result.stdout
    )
    assert "3/3" in result.stderr and "/s" in result.stderr


@pytest.mark.usefixtures("written")
def test_progress_knows_how_many_documents_a_file_has(run, monkeypatch, tmp_path):
    totals = []

    @contextmanager
    def progress(_items, total, _shown):
        totals.append(total)
        yield lambda _: None

    monkeypatch.setattr("tridex.client._sync.client.progress", progress)
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress((jsonl(LINES) + "\n\n").encode()))
    assert run("index", "add", tmp_path, "--collection", "docs").exit_code == 0
    os.mkfifo(tmp_path / "pipe.jsonl")
    writer = threading.Thread(target=(tmp_path / "pipe.jsonl").write_text, args=(jsonl(LINES),))
    writer.start()
    assert run("index", "add", tmp_path / "pipe.jsonl", "--collection", "docs").exit_code == 0
    writer.join()
    assert totals == [4, None], "a pipe can be read only once"


def test_index_json(run, written, tmp_path):
    (tmp_path / "docs.jsonl").write_text(jsonl(LINES))
    result = run("index", "add", tmp_path / "docs.jsonl", "--collection", "docs", "--json")
    counts = json.loads(result.stdout)
    assert counts.pop("seconds") > 0
    assert counts.pop("version") == 3
    assert counts == {"documents": 3, "without_text": 1, "added": 0, "replaced": 0, "skipped": 3}
    assert len(written) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": "1", "text": "a"}\n{"id": "2"', "docs.jsonl, line 2: expected JSON in UTF-8"),
        (b'{"id": "1", "text": "\xff"}', "docs.jsonl, line 1: expected JSON in UTF-8"),
        (b'\n["1", "text"]', "docs.jsonl, line 2: expected an object, got ["),
        (
            b'{"key": 1, "text": "a"}',
            "docs.jsonl, line 1: no _id or id; expected one, or --id with another name of: key",
        ),
        (
            b'{"id": "1", "body": "a"}',
            "docs.jsonl, line 1: no text; expected one, or --text with another name of: id, b",
        ),
        (b'{"id": 1.5, "text": "a"}', "docs.jsonl, line 1: id is 1.5; expected an id, a string or an integer"),
        (b'{"id": "1", "text": 7}', "docs.jsonl, line 1: text is 7; expected text"),
        (b'{"id": "1", "text": "\\ud800"}', "docs.jsonl, line 1: text is '\\ud800'; expected valid Unicode"),
        (b'{"id": "1", "text": "' + b"x" * 300_000 + b'"}', "x', 300000 bytes; expected 1 to 262144 bytes, not blank"),
        (b'{"id": " ", "text": "a"}', "docs.jsonl, line 1: id is ' ', 1 bytes; expected 1 to 1024 bytes, not blank"),
        (b'{"id": "' + b"x" * 2000 + b'", "text": "a"}', "docs.jsonl, line 1: id is 'xxx"),
        (b'{"id": "1", "text": "a", "metadata": 7}', "docs.jsonl, line 1: metadata is 7; expected an object"),
        (b'{"id": "1", "text": "a", "metadata": {"x": 1e999}}', "docs.jsonl, line 1: metadata is {'x': inf}; expected"),
        (
            b'{"id": "1", "text": "a", "metadata": {"x": "' + b"x" * 70_000 + b'"}}',
            "docs.jsonl, line 1: metadata has 70009 bytes; expected at most 65536",
        ),
        (b"x" * (17 << 20), "docs.jsonl, line 1: expected at most 16777216 bytes"),
    ],
)
@pytest.mark.usefixtures("written")
def test_a_bad_file(run, tmp_path, content, message):
    (tmp_path / "docs.jsonl").write_bytes(content)
    result = run("index", "add", tmp_path / "docs.jsonl", "--collection", "docs", "--json")
    assert result.exit_code == 1 and result.stdout == ""
    assert message in result.stderr.splitlines()[-1]


NOISE = random.Random(0)
WHOLE = gzip.compress(
    b"".join(b'{"id": "%d", "text": "%s"}\n' % (i, NOISE.randbytes(9000).hex().encode()) for i in range(50)),
    mtime=0,
)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "{} does not exist; expected a .jsonl, .json, .csv, .tsv or .parquet file"),
        ("", None, "{}: expected a .jsonl, .json, .csv"),
        ("rows.parquet", b"PAR1", "{}: expected a Parquet file ("),
        ("rows.txt", b"text", "{}: expected a .jsonl, .json, .csv"),
        ("rows.json", b"[1", "{}: expected a JSON array in UTF-8 ("),
        ("rows.csv", b"a,b", "{} has the columns ['a', 'b']; expected _id or id, or --id with another"),
        ("rows.csv", b"id,body", "{} has the columns ['id', 'body']; expected text, or --text with another"),
        ("rows.csv", b"id,text\n1,a\n\n2", "{}, line 4: 1 values; expected 2, a column each"),
        ("rows.csv", b"id,text\n1,\xff", "{}, line 1: expected rows of text in UTF-8 ("),
        ("plain.jsonl.gz", b"plain", "{}, after line 0: expected a whole gzip file (Not a gzipped file (b'pl'))"),
        ("cut.jsonl.gz", WHOLE[:-9], "{}, after line 50: expected a whole gzip file (Compressed file ended before"),
        ("half.jsonl.gz", WHOLE[: len(WHOLE) // 2], "{}, after line 2"),
        (
            "crc.jsonl.gz",
            WHOLE[:-8] + bytes(4) + WHOLE[-4:],
            "{}, after line 50: expected a whole gzip file (CRC check",
        ),
        ("more.jsonl.gz", WHOLE + b"x", "{}, after line 50: expected a whole gzip file (Not a gzipped file"),
        ("hole.jsonl.gz", WHOLE[:200_000] + bytes(100) + WHOLE[200_100:], "{}, line 20"),
    ],
)
@pytest.mark.usefixtures("written")
def test_a_file_that_cannot_be_read(run, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = run("index", "add", tmp_path / name, "--collection", "docs")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.splitlines()[-1].startswith("tridex: " + message.format(tmp_path / name))


def test_an_id_that_comes_twice_names_both_lines(run, written, tmp_path):
    rows = [{"id": str(i % 40), "text": "t"} for i in range(41)]
    (tmp_path / "docs.jsonl").write_text("\n" + jsonl(rows))
    result = run("index", "add", tmp_path / "docs.jsonl", "--collection", "docs")
    place = f"{tmp_path}/docs.jsonl, line"
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"tridex: {place} 42: id '0' was there before ({place} 2); expected distinct ids"
    )
    assert written == [], "all rows are checked before one is written"


FIXED = '{"name": "docs", "fields": {"n": "int"}}'
INFERS = '{"name": "docs", "fields": {"n": "int"}, "infers_fields": true, "count": %d}'


@pytest.mark.parametrize(
    ("collection", "rows", "options", "expected"),
    [
        (FIXED, 50, [], "an integer of 64 bits, as the field is int"),
        (INFERS % 1000, 50, [], "an integer of 64 bits, as the field is int"),
        (INFERS % 0, 50, [], "an integer of 64 bits, as in the documents before it"),
        (None, 50, ["--create"], "an integer of 64 bits, as in the documents before it"),
        (None, 50, ["--create", "--field", "n:int"], "an integer of 64 bits, as the field is int"),
        (None, 1001, ["--create"], None),
        (INFERS % 999, 50, [], None),
        (FIXED, 50, ["--if-exists", "skip"], None),
        (FIXED, 50, ["--field", "n:a newer server's"], None),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_found_before_any_row_is_written(
    run, triton, refused, tmp_path, collection, rows, options, expected
):
    operations = []

    def answer(request):
        if request.model == "ingest":
            operations.append(request.parameters["operation"])
            return {"VERSION": np.full((max(len(request.inputs["ID"]), 1), 1), 1)}
        if collection is None and not operations:
            raise refused(grpc.StatusCode.NOT_FOUND, "collection 'docs' does not exist")
        return {"ROWS": [[collection or FIXED]]}

    triton.answer = answer
    last = {"id": "last", "text": "t", "n": "x"}
    documents = [{"id": str(i), "text": "t", "n": i} for i in range(rows - 1)]
    without_text = {"id": "none", "text": "", "n": "y"}
    (tmp_path / "docs.jsonl").write_text(jsonl([without_text, *documents, last]))
    result = run("index", "add", tmp_path / "docs.jsonl", "--collection", "docs", "--batch-size", 16, *options)
    if expected is None:
        assert result.exit_code == 0 and "upsert" in operations, result.stderr
        return
    assert result.exit_code == 1 and operations == []
    assert result.stderr.splitlines()[-1].startswith(
        f"tridex: {tmp_path}/docs.jsonl, line {rows + 1}: metadata field 'n' of document 'last' is 'x'; "
        f"expected {expected}"
    )


def test_a_typo_makes_no_collection(run, triton, refused, tmp_path):
    made = []

    def answer(request):
        if request.model == "ingest":
            made.append(request.parameters)
            return {"VERSION": np.full((max(len(request.inputs["ID"]), 1), 1), 1)}
        if not made:
            raise refused(grpc.StatusCode.NOT_FOUND, "collection 'dcos' does not exist; did you mean 'docs'?")
        return {"ROWS": [['{"name": "dcos"}']]}

    triton.answer = answer
    (tmp_path / "docs.csv").write_text("id,text,n\n1,one,2\n")
    add = ("index", "add", tmp_path / "docs.csv", "--collection", "dcos", "--field", "n:float")
    for command, options in ((add, {}), (("upsert", "dcos"), {"input": '{"id": "1", "text": "t"}'})):
        result = run(*command, **options)
        assert result.exit_code == 1 and made == []
        assert result.stderr == "tridex: collection 'dcos' does not exist; did you mean 'docs'? (--create makes it)\n"
    assert run(*add, "--create").exit_code == 0
    created, upserted = made
    assert created["operation"] == "create" and created["fields"] == '{"n": "float"}'
    assert upserted["operation"] == "upsert"
    (tmp_path / "docs.csv").write_text("id,text,n\n1,one,2\n2,two\n")
    made.clear()
    assert run(*add, "--create").exit_code == 1 and made == [], "a bad row makes none either"


@pytest.mark.parametrize(("answer", "made"), [("y\n", ["create", "upsert"]), ("n\n", []), ("\n", []), ("", [])])
def test_on_a_terminal_a_missing_collection_is_made_after_a_yes(
    run, triton, refused, tmp_path, monkeypatch, answer, made
):
    operations = []

    def answered(request):
        if request.model == "ingest":
            operations.append(request.parameters["operation"])
            return {"VERSION": np.full((max(len(request.inputs["ID"]), 1), 1), 1)}
        if not operations:
            raise refused(grpc.StatusCode.NOT_FOUND, "collection 'docs' does not exist")
        return {"ROWS": [['{"name": "docs"}']]}

    triton.answer = answered
    (tmp_path / "docs.csv").write_text("id,text\n1,one\n")
    terminal = SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(documents, "sys", terminal)
    result = run("index", "add", tmp_path / "docs.csv", "--collection", "docs", input=answer)
    assert "collection 'docs' does not exist. Make collection docs? [y/N]:" in result.stderr
    assert operations == made and result.exit_code == (0 if made else 1)


def test_a_stream_of_changes_may_name_a_document_again_but_not_in_one_request(run, written):
    rows = [{"id": "a", "text": "one"}, {"id": "b", "text": "two"}, {"id": "a", "text": "three"}]
    result = run("upsert", "docs", "--batch-size", 2, input=jsonl(rows))
    assert result.exit_code == 0 and [text for _, text, _ in written] == ["one", "two", "three"]
    result = run("upsert", "docs", input="\n\n" + jsonl(rows))
    assert result.exit_code == 1 and result.stderr == (
        "tridex: stdin, line 5: id: expected every id once in a batch (stdin, line 3 has it), got 'a'\n"
    )


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ("documents[1].metadata: nests 500 levels", "{} 42: metadata: nests 500 levels"),
        ("metadata field 'n' of document '38' is 'x'", "metadata field 'n' of document '38' is 'x' ({} 41)"),
        ("no room for such a text", "no room for such a text (sent with {0} 41 to {0} 42)"),
    ],
)
def test_what_the_server_refuses_of_a_batch_names_file_and_line(run, triton, refused, tmp_path, refusal, message):
    def answer(request):
        if request.model == "catalog":
            return {"ROWS": [['{"name": "docs", "fields": {"n": "int"}}']]}
        if [b"39"] in request.inputs["ID"].tolist():
            raise refused(grpc.StatusCode.INVALID_ARGUMENT, refusal)
        return {"VERSION": np.full((len(request.inputs["ID"]), 1), 1)}

    triton.answer = answer
    (tmp_path / "docs.jsonl").write_text("\n\n" + jsonl([{"id": str(i), "text": "t"} for i in range(50)]))
    result = run("index", "add", tmp_path / "docs.jsonl", "--collection", "docs", "--batch-size", 2)
    assert result.exit_code == 1
    expected = message.format(f"{tmp_path}/docs.jsonl, line")
    assert result.stderr.splitlines()[-1] == f"tridex: {expected} (the first 38 documents are written)"


def test_upsert_by_options(run, written):
    result = run("upsert", "docs", "--id", "a", "--text", "größer", "--metadata", '{"n": 1}')
    assert result.exit_code == 0 and result.stdout == "1 skipped; docs is at version 2\n"
    assert written == [("a", "größer", {"n": 1})]


def test_upsert_from_stdin(run, written):
    result = run("upsert", "docs", "--json", input=jsonl(LINES[:2]))
    assert json.loads(result.stdout) == {"version": 2, "added": 0, "replaced": 0, "skipped": 2}
    assert written == EXPECTED[:2]


def test_upsert_refuses_half_a_document(run, triton):
    result = run("upsert", "docs", "--id", "a", input="")
    assert result.exit_code != 0 and "--id and --text go together" in result.stderr
    result = run("upsert", "docs", "--id", "a", "--text", "t", "--metadata", "{")
    assert result.exit_code == 1 and "--metadata: expected a JSON object" in result.stderr
    assert triton.requests == []


def test_delete(run, triton):
    triton.answer = lambda request: {"VERSION": np.full((len(request.inputs["ID"]), 1), 8)}
    assert json.loads(run("delete", "docs", "a", "b", "--json").stdout) == {"version": 8, "deleted": 0}
    assert triton.requests[0].inputs["ID"].tolist() == [[b"a"], [b"b"]]


HITS = {
    "IDS": [["doc-1", "[bold]x[/]"]],
    "SCORES": np.array([[12.5, 0.25]], np.float32),
    "TEXTS": [["First\nline \x1b[31mred\x1b[0m", "word " * 200]],
    "METADATA": [['{"n": 1}', "{}"]],
    "VERSION": np.array([[3]]),
}


def test_search_table(run, triton):
    triton.answer = lambda _: HITS
    result = run("search", "docs", "a question", "-k", 2)
    assert result.exit_code == 0 and result.stderr == ""
    assert triton.requests[0].parameters["top_k"] == 2
    first = next(line for line in result.stdout.splitlines() if "doc-1" in line)
    assert first.split()[:2] == ["1", "12.500"] and "First line" in first
    assert "\x1b" not in result.stdout, "a stored text must not reach the terminal as a control sequence"
    assert "[bold]x[/]" in result.stdout and "…" in result.stdout and "2 hits in docs, version 3" in result.stdout


def test_search_json(run, triton):
    triton.answer = lambda _: HITS
    result = run("search", "docs", "a question", "--json", "--min-version", 2)
    found = json.loads(result.stdout)
    assert found["version"] == 3
    assert found["hits"][0] == {
        "id": "doc-1",
        "score": 12.5,
        "text": "First\nline \x1b[31mred\x1b[0m",
        "metadata": {"n": 1},
        "explanation": None,
    }
    assert triton.requests[0].parameters["min_version"] == 2


def test_rerank_texts(run, triton):
    triton.answer = lambda _: {"SCORES": np.array([[1, 2]], np.float32)}
    result = run("rerank", "q", "first text", "second text", "--json")
    assert json.loads(result.stdout) == [
        {"index": 1, "relevance_score": 2.0, "id": None},
        {"index": 0, "relevance_score": 1.0, "id": None},
    ]
    table = run("rerank", "q", "first text", "second text").stdout
    assert table.index("second text") < table.index("first text")


def test_rerank_stored_documents(run, triton):
    scores = np.array([[2, 1]], np.float32)
    triton.answer = lambda _: {"IDS": [["b", "a"]], "SCORES": scores, "VERSION": np.array([[1]])}
    result = run("rerank", "q", "--collection", "docs", "--id", "a", "--id", "b", "--top-n", 1, "--json")
    assert json.loads(result.stdout) == [{"index": 1, "relevance_score": 2.0, "id": "b"}]
    assert run("rerank", "q").exit_code == 1


@pytest.mark.parametrize(("flags", "model"), [((), "encode_query"), (("--document",), "encode_document")])
def test_encode(run, triton, flags, model):
    triton.answer = lambda _: {
        "EMBEDDINGS": np.full((1, 3, 2), 0.5, np.float32),
        "EMBEDDING_MASK": np.array([[1, 0, 1]]),
    }
    assert json.loads(run("encode", "text", "--json", *flags).stdout) == [[[0.5, 0.5], [0.5, 0.5]]]
    assert triton.requests[0].model == model
    assert "tokens" in run("encode", "text").stdout


def test_stats(run, triton):
    collection = {"name": "docs", "count": 1234, "version": 9, "codec": "int8", "dim": 128, "fingerprint": "f" * 64}
    collection |= {"fields": {"year": "int"}, "document_length": 300, "long_documents": "windows"}
    collection |= {"pooling_factor": 2, "codebook": None, "checkpoint": {"weights": "e" * 64}, "infers_fields": True}
    collection |= {"tokens": 99, "device_bytes": 12_000, "budget_bytes": 16_000, "damage": ""}
    triton.answer = lambda _: {"ROWS": [[json.dumps(collection)]]}
    model = triton.statistics.model_stats.add(name="maxsim", execution_count=2)
    model.inference_stats.success.count = model.inference_stats.queue.count = 4
    model.inference_stats.queue.ns = 8_000_000
    table = run("stats").stdout
    assert "1,234" in table and "docs" in table and "maxsim" in table and "2.000" in table
    found = json.loads(run("stats", "--json").stdout)
    assert found["collections"] == [collection]
    assert found["models"][0]["model"] == "maxsim" and found["models"][0]["mean_queue_us"] == 2000.0


def test_an_error_is_one_line_on_stderr(run, triton):
    triton.failures = [(grpc.StatusCode.NOT_FOUND, "no collection 'docs';\nthere are none")]
    result = run("search", "docs", "q", "--json")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == "tridex: no collection 'docs'; there are none\n"


def test_nobody_there_says_how_to_start_a_server(run):
    result = run("stats", "--address", "127.0.0.1:1")
    assert result.exit_code == 1 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "tridex serve" in result.stderr


def test_a_server_that_is_there_needs_no_start(run, triton):
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, "queue is full")] * 5
    result = run("search", "docs", "q")
    assert result.exit_code == 1 and re.fullmatch(
        r"tridex: queue is full \(after 5 attempts in [0-9.]+ s\)\n", result.stderr
    )


def test_version(run):
    assert run("--version").stdout == f"tridex {version('tridex')}\n"


def test_exact_has_the_clients_name(run, triton):
    triton.answer = lambda _: HITS
    run("search", "docs", "q", "--no-exact", "--n-probe", 3)
    run("search", "docs", "q", "--exact", "--mode", "hybrid", "--maxsim-weight", 0.25)
    first, second = (request.parameters for request in triton.requests)
    assert (first["exact"], first["n_probe"]) == (False, 3)
    assert "exact" not in second and (second["mode"], second["maxsim_weight"]) == ("hybrid", "0.25")


def test_a_name_that_does_not_exist_is_an_error_of_usage(run, triton):
    for arguments in (("search", "docs", "q", "--mode", "dense"), ("collections", "create", "docs", "--codec", "int3")):
        result = run(*arguments)
        assert result.exit_code == 2 and arguments[-2] in result.stderr and arguments[-1] in result.stderr
    assert triton.requests == []


def test_timeout_option(run, triton):
    triton.failures = [(grpc.StatusCode.UNAVAILABLE, "loading")] * 5
    assert run("search", "docs", "q", "--timeout", "0.1").exit_code == 1
    assert len(triton.requests) < 5


PLUGIN = '''
from __future__ import annotations
from typing import Annotated
import typer

def greet(name: str, loud: Annotated[bool, typer.Option("--loud")] = False) -> None:
    """Greets."""
    typer.echo(name.upper() if loud else name)

def heavy() -> None:
    """Imports when it runs."""
    import a_package_nobody_has
'''


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    (tmp_path / "tridex_test_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    group = "tridex.commands"
    points = [
        EntryPoint("tidy", "a_package_nobody_has.cli:tidy [serve]", "tridex.commands.index"),
        EntryPoint("greet", "tridex_test_plugin:greet", group),
        EntryPoint("heavy", "tridex_test_plugin:heavy", group),
        EntryPoint("export", "a_package_nobody_has.cli:export", group),
    ]
    monkeypatch.setattr(extensions, "entry_points", lambda group: [p for p in points if p.group == group])


@pytest.mark.usefixtures("plugins")
def test_commands_of_other_parts(run):
    assert run("greet", "you", "--loud").stdout == "YOU\n"
    help_text = run("--help").stdout
    assert "Greets." in help_text and "pip install 'tridex[export]'" in help_text


@pytest.mark.usefixtures("plugins")
def test_a_command_below_index_names_the_extra_of_its_entry_point(run):
    result = run("index", "tidy", "docs")
    assert result.exit_code == 1 and "pip install 'tridex[serve]'" in result.stderr
    assert "tidy" in run("index", "--help").stdout and "tidy" not in run("--help").stdout


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("arguments", [["export"], ["export", "some/checkpoint", "--int8", "-o", "x"], ["heavy"]])
def test_a_missing_extra_names_its_install(run, arguments):
    result = run(*arguments)
    assert result.exit_code == 1 and result.stdout == ""
    assert f"pip install 'tridex[{arguments[0]}]'" in result.stderr and "a_package_nobody_has" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.usefixtures("plugins")
def test_beside_onnxruntime_gpu_no_extra_that_brings_the_other_is_named(run, monkeypatch):
    monkeypatch.setattr(extensions, "versions", lambda names: dict.fromkeys(names, "1.31.1"))
    assert "pip install 'tridex[gpu,export-tools]'" in run("export").stderr
    assert "pip install 'tridex[gpu]'" in run("index", "tidy", "docs").stderr
    assert "pip install 'tridex[heavy]'" in run("heavy").stderr


def test_every_extra_with_the_cpus_onnx_runtime_has_another_for_gpus():
    def distributions(extra):
        """What an extra installs, and the extras of ours that it is made of."""
        for requirement in map(Requirement, extras[extra]):
            yield requirement.name
            for inner in requirement.extras if requirement.name == "tridex" else ():
                yield from distributions(inner)

    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    on_cpu = {extra for extra in extras if "onnxruntime" in distributions(extra)}
    on_gpu = {extra for extra in extras if "onnxruntime-gpu" in distributions(extra)}
    assert on_gpu == {"gpu", "gpu-dev"} and on_cpu == {*extensions.BESIDE_GPU, "wandb", "dev"}
    for replacement in extensions.BESIDE_GPU.values():
        assert "onnxruntime" not in [name for extra in replacement.split(",") for name in distributions(extra)]


INFO = {"name": "docs", "count": 3, "version": 9, "codec": "int8", "dim": 128, "fingerprint": "f" * 64}
INFO |= {"fields": {"year": "int", "a:b": "str"}, "document_length": 180, "long_documents": "truncate"}
INFO |= {"pooling_factor": 2, "codebook": "c" * 64, "checkpoint": {"weights": "e" * 64}, "infers_fields": True}
INFO |= {"tokens": 99, "device_bytes": 12_000, "budget_bytes": 16_000, "damage": ""}


@pytest.fixture
def mutable(triton):
    """A server that has one collection and one alias."""
    rows = {"collection": [INFO], "collections": [INFO], "aliases": [{"alias": "live", "collection": "docs"}]}

    def answer(request):
        if request.model == "ingest":
            return {"VERSION": np.array([[9]])}
        return {"ROWS": [[json.dumps(row) for row in rows[request.parameters["operation"]]]]}

    triton.answer = answer
    return triton


def test_collections(run, mutable):
    created = run(
        "collections", "create", "docs", "--field", "year:int", "--field", "a:b:str", "--codec", "int8", "--json"
    )
    assert json.loads(created.stdout) == INFO
    assert json.loads(mutable.requests[0].parameters["fields"]) == INFO["fields"]
    for command in (["list"], ["describe", "docs"]):
        assert "year:int" in run("collections", *command).stdout
        assert "docs" in run("collections", *command, "--json").stdout
    assert run("collections", "drop", "docs").stdout == "Dropped docs\n"
    assert json.loads(run("collections", "drop", "docs", "--json").stdout) == {"dropped": "docs"}


def test_fields_are_dropped_and_added(run, mutable):
    changed = run("index", "fields", "docs", "--drop", "year", "--drop", "a:b", "--add", "c:d:float", "--json")
    assert changed.exit_code == 0 and json.loads(changed.stdout) == INFO
    writes = [request.parameters for request in mutable.requests if request.model == "ingest"]
    assert {write["collection"] for write in writes} == {"docs"}
    assert [json.loads(write["fields"]) for write in writes] == [{"year": None, "a:b": None}, {"c:d": "float"}]
    mutable.requests.clear()
    assert "year:int" in run("index", "fields", "docs").stdout
    assert {request.model for request in mutable.requests} == {"catalog"}, "shown, not changed"


def test_aliases(run, mutable):
    assert run("alias", "set", "live", "docs").stdout == "live leads to docs\n"
    assert mutable.requests[-1].parameters == {"collection": "docs", "operation": "set_alias", "alias": "live"}
    assert "live" in run("alias", "list").stdout
    assert json.loads(run("alias", "list", "--json").stdout) == {"live": "docs"}
    assert json.loads(run("alias", "drop", "live", "--json").stdout) == {"dropped": "live"}


def test_filters(run, mutable):
    wanted = '{"field": "year", "operator": "==", "value": 1999}'
    assert run("delete", "docs", "--filters", wanted, "--json").exit_code == 0
    assert json.loads(mutable.requests[-1].parameters["filters"]) == json.loads(wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "docs", "q", "--filters", "{"], "--filters: expected JSON"),
        (["search", "docs", "q", "--filters", "[" * 10_000], "--filters: expected JSON"),
        (["delete", "docs", "--filters", "{}"], "--filters: expected a JSON object that is not empty"),
        (["delete", "docs"], "delete: expected either ids, or filters"),
        (["collections", "create", "docs", "--field", "year"], "--field: expected NAME:TYPE"),
        (["collections", "create", "docs", "--field", "y:int", "--field", "y:str"], "each name once, got 'y:str'"),
        (["alias", "set", "no spaces", "docs"], "alias: expected a name like"),
    ],
)
def test_what_is_refused_before_it_is_sent(run, triton, arguments, message):
    result = run(*arguments)
    assert result.exit_code == 1 and message in result.stderr and triton.requests == []


def test_compact(run, mutable):
    assert run("index", "compact", "docs").stdout == "Compacted docs, version 9\n"
    assert mutable.requests[-1].parameters == {"collection": "docs", "operation": "compact"}
    assert json.loads(run("index", "compact", "docs", "--json").stdout) == {"version": 9}


def test_damaged_collections_are_named_below_the_others(run, triton):
    sound = {"name": "docs", "count": 3, "version": 7, "codec": "int8", "dim": 128, "fingerprint": "abc", "fields": {}}
    damaged = {"name": "old", "damage": "collection 'old' cannot be read"}
    triton.answer = lambda _: {"ROWS": [[json.dumps(sound), json.dumps(damaged)]]}
    printed = run("collections", "list").stdout
    assert "docs" in printed and printed.endswith("old: collection 'old' cannot be read\n")
    assert json.loads(run("collections", "list", "--json").stdout)[1]["damage"] == damaged["damage"]
