"""Moves an export to where Triton server reads it, in one step: a version folder is complete as soon as it exists."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tridex.encoding.artifact import versions


@contextmanager
def staging_dir(encoder_dir: Path) -> Iterator[Path]:
    """A new folder in `encoder_dir`, under a name that Triton server ignores; removed afterwards unless `publish` moved
    it."""
    folder = encoder_dir / f".staging-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(staging: Path) -> Path:
    """Renames `staging` to the next version folder and removes the older ones; returns the version folder."""
    encoder_dir = staging.parent
    older = versions(encoder_dir)
    version_dir = encoder_dir / str(max(older, default=0) + 1)
    os.rename(staging, version_dir)  # noqa: PTH104  (fails where the target exists, on every platform)
    for number in older:
        shutil.rmtree(encoder_dir / str(number), ignore_errors=True)
    return version_dir
