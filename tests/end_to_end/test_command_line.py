"""The command line against the real server, as a script would use it: --json on standard output and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tridex.serving.server import TritonServer

TRIDEX = Path(sys.executable).parent / "tridex"


def tridex(server: TritonServer, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(TRIDEX), *arguments, "--address", server.address]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, check=False, timeout=120)


def answer(server: TritonServer, *arguments: str, stdin: str | None = None) -> Any:
    done = tridex(server, *arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def indexed(server: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> TritonServer:
    corpus = tmp_path_factory.mktemp("cli") / "corpus.jsonl"
    rows = [{"_id": f"d{i}", "title": f"Title {i}", "text": f"the text number {i}"} for i in range(30)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer(server, "index", "add", str(corpus), "--collection", "cli", "--create")
    return server


def test_search_finds_what_index_wrote(indexed: TritonServer) -> None:
    hits = json.dumps(answer(indexed, "search", "cli", "the text number 7", "--top-k", "3"))
    assert "d7" in hits and "Title 7" in hits


def test_search_has_modes(indexed: TritonServer) -> None:
    def ids(*options: str) -> list[str]:
        return [hit["id"] for hit in answer(indexed, "search", "cli", "the number 7", *options)["hits"]]

    assert ids("--mode", "bm25", "-k", "1") == ids("--mode", "rerank", "--n-candidates", "1", "-k", "1") == ["d7"]
    assert len(ids("--mode", "hybrid", "--maxsim-weight", "0.2")) == 10
    assert ids("--no-exact", "--n-probe", "4", "--n-candidates", "20") == ids()
    for options, message in (
        (("--mode", "hybrid", "--maxsim-weight", "nan"), "maxsim_weight: expected a number from 0 to 1, got nan"),
        (("--n-probe", "4"), "n_probe is 4 in a search of mode maxsim with exact true, where it has no effect"),
    ):
        refused = tridex(indexed, "search", "cli", "x", *options)
        assert refused.returncode == 1 and message in refused.stderr
    refused = tridex(indexed, "search", "cli", "x", "--mode", "sparse")
    assert refused.returncode == 2
    assert all(word in refused.stderr for word in ("--mode", "sparse", "maxsim", "bm25", "rerank", "hybrid"))


def test_a_person_reads_a_table(indexed: TritonServer) -> None:
    done = tridex(indexed, "search", "cli", "the text number 7")
    assert done.returncode == 0 and "d7" in done.stdout and "{" not in done.stdout


def test_documents_come_and_go(indexed: TritonServer) -> None:
    answer(indexed, "upsert", "cli", stdin=json.dumps({"id": "new", "text": "a new document"}) + "\n")
    assert "new" in json.dumps(answer(indexed, "search", "cli", "a new document"))
    answer(indexed, "delete", "cli", "new")
    assert '"new"' not in json.dumps(answer(indexed, "search", "cli", "a new document"))
    assert '"cli"' in json.dumps(answer(indexed, "stats"))


def test_a_table_is_indexed_and_filtered(server: TritonServer, tmp_path: Path) -> None:
    (tmp_path / "films.csv").write_bytes(
        b'\xef\xbb\xbfno,name,plot,year\r\n1,Alien,a crew,1979\r\n2,Heat,"a heist, and a chase",1995\r\n'
    )
    add = (
        "index",
        "add",
        str(tmp_path / "films.csv"),
        "--id",
        "no",
        "--text",
        "name",
        "--text",
        "plot",
        "--collection",
    )
    typo = tridex(server, *add, "films", stdin="")
    assert typo.returncode == 1 and "'films' does not exist" in typo.stderr and "--create makes it" in typo.stderr
    assert answer(server, *add, "films", "--create")["added"] == 2
    assert answer(server, *add, "films", "--if-exists", "skip")["skipped"] == 2
    assert answer(server, "collections", "describe", "films")["fields"] == {"year": "int"}
    wanted = json.dumps({"field": "year", "operator": "<", "value": 1990})
    found = answer(server, "search", "films", "a chase", "--filters", wanted, "--normalize")["hits"]
    assert [hit["id"] for hit in found] == ["1"] and 0 < found[0]["score"] <= 1
    assert answer(server, "index", "fields", "films", "--add", "year:float")["fields"] == {"year": "float"}


def test_an_unknown_collection_is_one_clear_line(indexed: TritonServer) -> None:
    done = tridex(indexed, "search", "nowhere", "a question", "--json")
    assert done.returncode == 1 and done.stdout == ""
    assert "'nowhere' does not exist" in done.stderr and "Traceback" not in done.stderr


def test_a_value_that_does_not_fit_its_field_is_named_before_any_row_is_written(
    indexed: TritonServer, tmp_path: Path
) -> None:
    answer(indexed, "collections", "create", "years", "--field", "year:int")
    rows = [{"id": str(i), "text": "t", "metadata": {"year": i if i != 21 else "x"}} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("\n" + "".join(json.dumps(row) + "\n" for row in rows))
    refused = tridex(indexed, "index", "add", str(tmp_path / "rows.jsonl"), "--collection", "years")
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1] == (
        f"tridex: {tmp_path}/rows.jsonl, line 23: metadata field 'year' of document '21' is 'x'; "
        "expected an integer of 64 bits, as the field is int"
    )
    assert answer(indexed, "collections", "describe", "years")["count"] == 0


@pytest.mark.parametrize("how", ["skip", "pipe"])
def test_a_line_that_only_the_server_refuses_is_named_with_what_was_written_before(
    indexed: TritonServer, tmp_path: Path, how: str
) -> None:
    """Nothing is checked before where documents may be skipped, and from a pipe."""
    collection = f"years-{how}"
    answer(indexed, "collections", "create", collection, "--field", "year:int")
    rows = [{"id": str(i), "text": "t", "metadata": {"year": i if i != 21 else "x"}} for i in range(30)]
    lines = "\n" + "".join(json.dumps(row) + "\n" for row in rows)
    if how == "skip":
        source, options, stdin = str(tmp_path / "rows.jsonl"), ["--if-exists", "skip"], None
        Path(source).write_text(lines)
    else:
        source, options, stdin = "/dev/stdin", [], lines
    refused = tridex(indexed, "index", "add", source, "--collection", collection, *options, stdin=stdin)
    assert refused.returncode == 1 and refused.stderr.splitlines()[-1] == (
        "tridex: metadata field 'year' of document '21' is 'x'; expected an integer of 64 bits, as the field is int "
        f"({source}, line 23) (the first 16 documents are written)"
    )
    assert answer(indexed, "collections", "describe", collection)["count"] == 16


def test_a_repository_without_an_encoder_is_one_clear_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(TRIDEX), "serve", "--repository", str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "not Tridex's model repository" in done.stderr
