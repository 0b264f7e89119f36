"""Removes what killed servers left behind in shared memory and temporary folders."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
_BACKEND_FOLDERS = Path("/tmp")
"""Independent of TMPDIR."""

_CLOCK_DIFFERENCE_S = 5.0
"""At most, between a process's start and a file's time."""

_MAX_ID = 2**31 - 1
"""Of a process. Anybody may make files with larger numbers there, which psutil cannot look for."""

PREFIX = "tridex-"
"""Of shared memory and of temporary folders; the id of the process that owns them follows."""


def own_prefix() -> str:
    """What names of this process's temporary folders and shared memory begin with."""
    return f"{PREFIX}{os.getpid()}-"


def remove_leftovers() -> None:
    """Removes what belongs to no process any more."""
    for place in (SHARED_MEMORY, Path(tempfile.gettempdir())):
        for left in place.glob(f"{PREFIX}*-*"):
            owner = left.name[len(PREFIX) :].partition("-")[0]
            if owner.isdigit() and int(owner) <= _MAX_ID and not psutil.pid_exists(int(owner)):
                _remove(left)
    # The Python backend makes one for packed environments at each start; we have none, and a killed server leaves it.
    servers = [p.info["create_time"] for p in psutil.process_iter(["name", "create_time"]) if _is_server(p)]
    oldest = min(servers, default=float("inf")) - _CLOCK_DIFFERENCE_S
    for folder in _BACKEND_FOLDERS.glob("python_env_*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < oldest:
                folder.rmdir()


def shared_memory(prefix: str) -> Iterator[Path]:
    """The regions whose names begin so."""
    return SHARED_MEMORY.glob(f"{prefix}*")


def _remove(path: Path) -> None:
    # Not ours to remove, or gone meanwhile.
    with contextlib.suppress(OSError):
        path.unlink() if not path.is_dir() else shutil.rmtree(path)


def _is_server(process: psutil.Process) -> bool:
    return bool(process.info["name"] == "tritonserver")
