"""Removes what killed servers left behind in shared memory and temporary folders."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
_BACKEND_FOLDERS = Path("/tmp")
"""Independent of TMPDIR."""

_CLOCK_DIFFERENCE_S = 5.0
"""At most, between a process's start and a file's time."""

_PROCESS_IDS = Path("/proc/self/ns/pid")
"""Another file for each set of process ids."""


def prefix_of(pid: int | str) -> str:
    """What names of a process's temporary folders and shared memory begin with.

    Containers may share /dev/shm, and a process id of another container says nothing here: so names also say whose
    process ids it is one of.
    """
    return f"tridex-ns{_PROCESS_IDS.stat().st_ino}-{pid}-"


def own_prefix() -> str:
    """That of this process."""
    return prefix_of(os.getpid())


def remove_leftovers() -> None:
    """Removes what belongs to no process any more."""
    named = re.compile(prefix_of(r"(\d{1,7})"))  # Anybody may write larger numbers there than process ids can be.
    for place in (SHARED_MEMORY, Path(tempfile.gettempdir())):
        for left in place.glob("tridex-*"):
            if (owner := named.match(left.name)) and not psutil.pid_exists(int(owner[1])):
                _remove(left)
    # The Python backend makes one for packed environments at each start; we have none, and a killed server leaves it.
    servers = [p.info["create_time"] for p in psutil.process_iter(["name", "create_time"]) if _is_server(p)]
    oldest = min(servers, default=float("inf")) - _CLOCK_DIFFERENCE_S
    for folder in _BACKEND_FOLDERS.glob("python_env_*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_mtime < oldest:
                folder.rmdir()


def remove_shared_memory(prefix: str) -> None:
    """Removes the regions whose names begin so."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        _remove(region)


def _remove(path: Path) -> None:
    # Not ours to remove, or gone meanwhile.
    with contextlib.suppress(OSError):
        path.unlink() if not path.is_dir() else shutil.rmtree(path)


def _is_server(process: psutil.Process) -> bool:
    return bool(process.info["name"] == "tritonserver")
