"""One connection to the server for all adapters, and a collection for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tridex.client import Client
from tridex.integrations import Connection
from tridex.serving.server import TritonServer

_NUMBERS = itertools.count()


@pytest.fixture(scope="package", autouse=True)
def no_telemetry() -> Iterator[None]:
    """Haystack reports what pipelines are made of to its makers, unless it is told not to."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HAYSTACK_TELEMETRY_ENABLED", "False")
        yield


@pytest.fixture(scope="package")
def connection(server: TritonServer) -> Iterator[Connection]:
    with Connection(server.address, timeout_s=120) as connection:
        yield connection


@pytest.fixture
def collection(client: Client) -> Iterator[str]:
    """An empty collection of this test."""
    name = f"integrations-{next(_NUMBERS)}"
    client.create_collection(name)
    yield name
    client.drop_collection(name)
