"""The examples run, each in a process of its own, and print what they are there to show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from examples.passages import PASSAGES, QUESTION
from tridex.client import Client, Document
from tridex.serving.server import TritonServer

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(example: str, *arguments: str) -> str:
    """What the example prints."""
    assert len((EXAMPLES / f"{example}.py").read_text().splitlines()) < 60
    command = [sys.executable, "-m", f"examples.{example}", *arguments]
    done = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_filters(server: TritonServer) -> None:
    printed = run("filters", "--address", server.address, "--collection", "example-filters").splitlines()
    assert printed[0] == "fields, inferred: {'year': 'int', 'genres': 'list[str]'}"
    assert all(film in printed[1] for film in ("alien", "jaws", "arrival", "gravity"))
    assert "jaws" not in printed[2] and "alien" in printed[2]
    assert "alien" not in printed[3] and "arrival" in printed[3] and "gravity" in printed[3]
    assert "drama" in printed[4] and "horror" not in printed[4]
    assert "1975" in printed[5] and "2016" in printed[5]
    assert printed[6].count("'recent': True") == 1


def test_aliases(server: TritonServer) -> None:
    printed = run("aliases", "--address", server.address, "--alias", "example-aliases").splitlines()
    assert printed[0] == "monday: maxsim" and printed[2] == "back to monday: maxsim"
    assert printed[1].startswith("tuesday: ") and "maxsim" not in printed[1]
    assert "'example-aliases': 'example-aliases-monday'" in printed[3]


def test_a_service_for_fifty_users(server: TritonServer) -> None:
    printed = run("async_service", "--address", server.address)
    assert printed.startswith("50 users: ") and PASSAGES["maxsim"] in printed


def test_a_bulk_build(server: TritonServer) -> None:
    places = ("--store", str(server.store), "--repository", str(server.repository), "--address", server.address)
    printed = run("bulk_build", *places, "--collection", "example-bulk").splitlines()
    assert printed[-2].startswith("[('maxsim', ") and printed[-1] == "{'words': 'int'}"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_kserve_without_our_client(protocol: str, server: TritonServer, client: Client) -> None:
    client.upsert("example-raw", [Document(name, text) for name, text in PASSAGES.items()])
    address = f"{server.host}:{server.ports[protocol]}"
    printed = run("raw_kserve", protocol, address, "example-raw", QUESTION)
    assert printed.split()[1] == "maxsim" and len(printed.splitlines()) == 3
