"""How often the crash tests kill: `--crash-rounds`."""

from __future__ import annotations

import pytest

_ROUNDS = 30


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--crash-rounds", type=int, default=_ROUNDS, help="kills of a writer; a server takes a 14th, three at least"
    )


@pytest.fixture(scope="session")
def crash_rounds(request: pytest.FixtureRequest) -> int:
    # Not known where this folder was not named on the command line.
    return int(request.config.getoption("--crash-rounds", _ROUNDS))
