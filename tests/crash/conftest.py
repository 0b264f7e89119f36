"""How often the crash tests kill: `--crash-rounds`, `--crash-kills`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

_ROUNDS = 30
_KILLS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--crash-rounds", type=int, default=_ROUNDS, help="kills of a process that writes to a store")
    parser.addoption("--crash-kills", type=int, default=_KILLS, help="kills of a process of a server under load")


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
def crash_kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--crash-kills", _KILLS))
