"""Tests that need a GPU: `make gpu` runs them, `make test` does not collect them (norecursedirs in pyproject.toml)."""

import pytest
import torch


def pytest_configure() -> None:
    if not torch.cuda.is_available():
        raise pytest.UsageError(
            "tests/gpu needs a CUDA device, and torch finds none; on a machine without one run `make test`"
        )


@pytest.fixture(scope="session")
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
