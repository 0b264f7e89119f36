"""The services over a tiny random checkpoint, and the checkpoint's export."""

from __future__ import annotations

from pathlib import Path

import pytest
from services import checkpoint, context, repository

from tridex.encoding import Artifact, latest_version_dir, load_artifact

__all__ = ["artifact", "checkpoint", "context", "repository"]


@pytest.fixture(scope="session")
def artifact(repository: Path) -> Artifact:
    return load_artifact(latest_version_dir(repository / "encoder"))
