"""What a running server uses: its processes, their memory, the memory they share."""

from __future__ import annotations

from pathlib import Path

import psutil

_SHARED_MEMORY = Path("/dev/shm")
_STUB = "triton_python_backend_stub"


def processes(pid: int) -> dict[str, psutil.Process]:
    """The tritonserver with this process id, and the process of each of its Python models by the model's name."""
    server = psutil.Process(pid)
    return {"tritonserver": server, **{_model(stub): stub for stub in _stubs(server)}}


def resident_bytes(running: dict[str, psutil.Process]) -> dict[str, int]:
    """Memory of each process. Raises psutil.NoSuchProcess where one has ended."""
    return {name: process.memory_info().rss for name, process in running.items()}


def shared_bytes(pid: int) -> int:
    """Bytes that the Python backend of the tritonserver with this process id has in /dev/shm."""
    regions = {_SHARED_MEMORY / stub.cmdline()[2] for stub in _stubs(psutil.Process(pid))}
    return sum(region.stat().st_blocks * 512 for region in regions if region.exists())


def _stubs(server: psutil.Process) -> list[psutil.Process]:
    return [child for child in server.children(recursive=True) if _STUB in child.cmdline()[0]]


def _model(stub: psutil.Process) -> str:
    """The stub's first argument is .../MODEL/VERSION/model.py."""
    return Path(stub.cmdline()[1]).parts[-3]
