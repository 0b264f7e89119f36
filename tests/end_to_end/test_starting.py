"""A server that cannot start says why and what to do."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from servers import free_ports, new_server

from tridex.export.repository import write
from tridex.serving.server import ServerError, TritonServer
from tridex.serving.settings import ServerSettings


def test_a_port_in_use_is_named(repository: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        http_port, metrics_port = free_ports(2)
        settings = ServerSettings(
            repository=repository,
            store=tmp_path / "store",
            grpc_port=port,
            http_port=http_port,
            metrics_port=metrics_port,
        )
        server = TritonServer(settings)
        with pytest.raises(ServerError, match=f"grpc port {port} .*in use by process {os.getpid()} .*--grpc-port"):
            server.start()


def test_a_repository_without_an_exported_encoder_says_how_to_export(tmp_path: Path) -> None:
    list(write(tmp_path / "repository"))
    with pytest.raises(ServerError, match="make export"):
        new_server(tmp_path / "repository", tmp_path / "store").start()


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"not Tridex's model repository.*search/config\.pbtxt"):
        new_server(tmp_path, tmp_path / "store").start()


def test_an_encoder_tampered_with_is_refused_before_anything_starts(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    (model,) = copy.glob("encoder/*/model.onnx")
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)
    with pytest.raises(ServerError, match=r"model\.onnx.*make export"):
        new_server(copy, tmp_path / "store").start()


@pytest.mark.parametrize(
    "device",
    [pytest.param("cuda", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")), "cuda:99"],
)
def test_a_gpu_that_there_is_not_is_refused_before_anything_starts(
    repository: Path, tmp_path: Path, device: str
) -> None:
    """Which of the reasons, tests/common/test_device.py has."""
    server = new_server(repository, tmp_path / "store", device=device)
    with pytest.raises(
        ServerError, match=r"(NVIDIA driver|torch is built without CUDA|no cuda:99).*; (install|pip|choose)"
    ):
        server.start()
    assert not server.log.exists()


def test_a_model_that_does_not_load_is_named_with_its_cause(repository: Path, tmp_path: Path) -> None:
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    (copy / "catalog" / "1" / "model.py").write_text("import a_module_that_is_not_there\n")
    server = new_server(copy, tmp_path / "store")
    with pytest.raises(ServerError, match="a_module_that_is_not_there"):
        server.start()
    with pytest.raises(ServerError, match="not running"):
        _ = server.pid
