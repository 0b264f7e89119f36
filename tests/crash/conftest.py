"""How often the crash tests kill and stop processes, and where the figures go: the options `--crash-...`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.crash import Fault

_ROUNDS = 30
_KILLS = 3
_STOPS = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-rounds", type=int, default=_ROUNDS, help="kills of a process that writes to a store")
    parser.addoption("--crash-kills", type=int, default=_KILLS, help="kills of a process of a server under load")
    parser.addoption("--crash-stops", type=int, default=_STOPS, help="stops of a process of a server under load")
    parser.addoption("--crash-results", type=Path, help="a file for the figures of both, for benchmarks.crash")


@pytest.fixture(scope="session", autouse=True)
def kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """As of the tests in end_to_end, so that a server that starts again does not compile."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRIDEX_KERNEL_CACHE", str(tmp_path_factory.getbasetemp() / "kernel-cache"))
        yield


# Not known where this folder was not named on the command line.
@pytest.fixture(scope="session")
def crash_rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--crash-rounds", _ROUNDS))


@pytest.fixture(scope="session")
def crash_faults(request: pytest.FixtureRequest) -> list[Fault]:
    """Kills and stops in a random order, the same one at each run."""
    kills = request.config.getoption("--crash-kills", _KILLS)
    stops = request.config.getoption("--crash-stops", _STOPS)
    faults: list[Fault] = [*["killed"] * kills, *["stopped"] * stops]
    random.Random(0).shuffle(faults)
    return faults


@pytest.fixture(scope="session")
def crash_results(request: pytest.FixtureRequest) -> Path | None:
    return request.config.getoption("--crash-results", None)
