"""`tridex store backup`, `restore` and `check`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from tridex.client.cli.app import create_app
from tridex.index import KEPT, CollectionSpec, Document, Store
from tridex.kernels import Codec


def run(*arguments: object, status: int = 0) -> str:
    result = CliRunner().invoke(create_app(), ["store", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


def test_a_store_goes_there_and_back(tmp_path: Path) -> None:
    store, backups, restored = tmp_path / "store", tmp_path / "backups", tmp_path / "restored"
    collection = Store(store).create("c", CollectionSpec(4, Codec.FLOAT32, "f" * 64))
    collection.upsert([Document("a", "text", {})], [np.ones((2, 4), np.float32)])
    collection.record_checksums()
    assert json.loads(run("check", "--store", store, "--json"))["documents"] == 1
    made = json.loads(run("backup", backups, "--store", store, "--json"))
    assert "0.0 MB were new" in run("backup", backups, "--store", store) and made["collections"] == 1
    assert made["name"] in run("restore", backups, "--store", restored, "--backup", made["name"])
    assert Store(restored).open("c").get(["a"])[0] == Document("a", "text", {})
    assert "0 corrupt" in run("check", "--backups", backups)
    assert "writes over nothing" in run("restore", backups, "--store", store, status=1)

    (path,) = Store(restored).open("c").folder.glob("data/*.lance")
    content = path.read_bytes()
    path.write_bytes(content[:8] + bytes([content[8] ^ 1]) + content[9:])
    found = json.loads(run("check", "--store", restored, "--json", status=1))["corrupt"]
    assert [(one["collection"], one["file"]) for one in found] == [("c", str(path))]
    assert "1 corrupt" in run("check", "--store", restored, status=1)
    assert "is not there" in run("check", "--store", tmp_path / "nowhere", status=1)


def test_backups_that_are_kept_are_as_many_as_the_index_keeps() -> None:
    help_text = run("backup", "--help")
    assert f"[default: {KEPT}]" in " ".join(help_text.replace("│", " ").split())
