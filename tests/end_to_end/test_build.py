"""`tridex index build` into the store that a running server follows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tridex.client import Client, Document, NotFound
from tridex.serving.server import TritonServer

TRIDEX = Path(sys.executable).parent / "tridex"


def build(server: TritonServer, source: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(TRIDEX), "index", "build", str(source), "--store", str(server.store)]
    command += ["--repository", str(server.repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_a_residual_collection_is_built_beside_the_old_and_takes_its_alias(
    server: TritonServer, client: Client, stdlib: list[dict[str, object]], tmp_path: Path
) -> None:
    rows = stdlib[:120]
    client.upsert("bulk-1", [Document("old", "the old document")])
    client.set_alias("bulk", "bulk-1")
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = build(server, source, "--collection", "bulk-2", "--codec", "residual4", "--alias", "bulk", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["documents"] == 120
    info = client.describe_collection("bulk")
    assert (info.name, info.count, info.codec, info.long_documents) == ("bulk-2", 120, "residual4", "windows")
    assert info.codebook is not None

    found: Any = None
    for _ in range(200):
        # The server sees the new name within a poll of the store, and loads the collection.
        found = client.search("bulk", str(rows[3]["text"]), top_k=1)
        if found and found[0].id == rows[3]["_id"]:
            break
        time.sleep(0.05)
    assert found[0].id == rows[3]["_id"]
    client.upsert("bulk", [Document("new", "a haystack with one needle in it")])
    assert client.search("bulk", "a haystack with one needle in it", top_k=1)[0].id == "new"

    # As after a kill between the build and the alias: the same command sets it.
    client.set_alias("bulk", "bulk-1")
    again = build(server, source, "--collection", "bulk-2", "--codec", "residual4", "--alias", "bulk", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_after"] == 120 and client.aliases()["bulk"] == "bulk-2"
    again = build(server, source, "--collection", "bulk-2")
    assert again.returncode == 1 and "'bulk-2' exists already" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "int4"], "--codec is 'int4'; expected one of: float32"),
        (["--document-length", "9999"], "document_length is 9999; expected"),
        (["--field", "year"], "--field is 'year'; expected NAME:TYPE"),
        (["--field", "year:date"], "fields['year'] is 'date'; expected one of"),
        (["--alias", "no spaces"], "'no spaces' is no name"),
    ],
)
def test_what_is_asked_wrongly_is_one_clear_line(
    server: TritonServer, client: Client, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"id": "1", "text": "a"}\n')
    done = build(server, tmp_path / "corpus.jsonl", "--collection", "never", *arguments)
    assert done.returncode == 1 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(NotFound):
        client.describe_collection("never")
