"""Tests that need a GPU: `make gpu` runs them, `make test` does not collect them (norecursedirs in pyproject.toml).

`pytest tests/gpu/test_served.py tests/gpu/test_server.py tests/gpu/test_codes.py tests/gpu/test_candidates.py --device
cpu` runs the logic of those that ask a service, a server, a codec or a snapshot on a machine without one.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tridex.export import export_checkpoint, write_default_checkpoint


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cuda", help="what the services and servers under test compute on")
    parser.addoption("--kernel-cache", type=Path, help="what servers compile is kept here for a later call's")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: asks how much of the GPU's memory is free, and fills it")
    if config.getoption("--device") != "cpu" and not torch.cuda.is_available():
        raise pytest.UsageError(
            "tests/gpu needs a CUDA device, and torch finds none; on a machine without one run `make test`"
        )


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.config.getoption("--device") == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="session")
def gpu_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default checkpoint, as Sentence Transformers loads it."""
    return write_default_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def gpu_repository(gpu_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with that checkpoint exported."""
    folder = tmp_path_factory.mktemp("repository")
    export_checkpoint(str(gpu_checkpoint), repository=folder)
    return folder
