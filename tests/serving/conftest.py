"""The services over a tiny random checkpoint."""

import pytest
from services import checkpoint, context, repository

from tridex.serving.backend import scheduler

__all__ = ["checkpoint", "context", "repository"]


@pytest.fixture(autouse=True)
def _units_end_by_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which texts are encoded together is a matter of their lengths, not of how fast this machine is."""
    monkeypatch.setattr(scheduler, "_UNIT_TOKENISING_S", 60.0)
