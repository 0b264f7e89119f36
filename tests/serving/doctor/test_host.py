"""Hosts without a compiler, without room, with an occupied port, or without an encoder."""

from __future__ import annotations

import re
import resource
import shutil
import socket
import sys
import tempfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from tridex.serving.doctor import host
from tridex.serving.doctor.finding import Finding
from tridex.serving.settings import ServerSettings

Usage = namedtuple("Usage", "total used free")


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    finding = host.guard()
    assert finding.state == "missing" and "no C compiler" in finding.detail and "install gcc" in finding.remedy


def test_a_folder_from_which_the_guard_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a folder"))
    finding = host.guard()
    assert finding.state == "missing" and "cannot be loaded" in finding.detail and "TMPDIR" in finding.remedy


def test_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {
        (1024, 20_000): ("ok", "at most 20,000 a process, one for each connection"),
        (256, 512): ("fault", "at most 512 a process, one for each connection; expected at least 1,024"),
        (1024, resource.RLIM_INFINITY): ("ok", "as many as are wanted"),
    }
    for given, (state, detail) in limits.items():
        monkeypatch.setattr(resource, "getrlimit", lambda _, given=given: given)
        assert (host.open_files().state, host.open_files().detail) == (state, detail)


def test_an_occupied_port() -> None:
    with socket.socket() as user:
        user.bind(("127.0.0.1", 0))
        user.listen()
        number = user.getsockname()[1]
        finding = host.port("grpc", "127.0.0.1", number)
    assert finding.state == "fault" and f"{number} on 127.0.0.1 is in use by process" in finding.detail
    assert finding.remedy == "tridex serve --grpc-port PORT"


def test_little_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(64 << 20, 0, 64 << 20))
    assert host.shared_memory().state == host.disk(tmp_path / "not" / "yet").state == "fault"
    assert host.shared_memory().detail == "0.1 of 0.1 GiB free; expected at least 0.25"
    assert "--shm-size" in host.shared_memory().remedy


def test_a_store_that_does_not_exist_yet_is_not_made(tmp_path: Path) -> None:
    assert host.disk(tmp_path / "not" / "yet").state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_no_encoder(tmp_path: Path) -> None:
    finding = host.repository(tmp_path / "models", "embedded")
    assert finding.state == "missing" and f"--repository {tmp_path / 'models'}" in finding.remedy


def test_an_encoder_cannot_be_read_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tridex.serving.server.preflight", None)
    finding = host.repository(tmp_path, "embedded")
    assert (finding.state, finding.remedy) == ("missing", "pip install 'tridex[embedded]'")


@pytest.mark.parametrize(
    ("name", "check", "detail"),
    [
        ("api_key_file", host.secrets, "cannot be read: No such file"),
        ("tls_cert", host.secrets, "--tls-cert .* cannot be read: No such file"),
        ("log", host.log, "is a folder"),
    ],
)
def test_files_that_a_start_would_refuse(
    tmp_path: Path, name: str, check: Callable[[ServerSettings], Finding], detail: str
) -> None:
    assert check(ServerSettings()).state == "ok"
    given = {name: tmp_path if name == "log" else tmp_path / "none"}
    if name == "tls_cert":
        given["tls_key"] = tmp_path / "key"
    finding = check(ServerSettings(**given))
    assert finding.state == "fault" and re.search(detail, finding.detail) and finding.remedy
