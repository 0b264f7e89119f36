"""Checks of the host and of what the settings name there: Python, guard, memory, open files, disk, ports, keys and
certificates, log, model repository.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import psutil

from tridex.serving.access.access import Access
from tridex.serving.access.key_file import KeyFileError
from tridex.serving.server.errors import ServerError
from tridex.serving.server.guard import GuardError, guard_environment
from tridex.serving.server.leftovers import SHARED_MEMORY
from tridex.serving.server.ports import reserved
from tridex.serving.server.tls import server_context
from tridex.serving.settings import ServerSettings

from .finding import Finding

_GIB = 1 << 30
_LEAST_MEMORY = 1 * _GIB
_LEAST_SHARED_MEMORY = 256 << 20
"""A model's process begins with 4 MiB and grows by what its requests need, at most 32 MiB each. A container has 64 MiB
where it is not told otherwise."""
_LEAST_DISK = 1 * _GIB
_LEAST_FILES = 1024
"""Of which an idle tritonserver has 69."""


def python() -> Finding:
    """The interpreter. Which ones tritonserver runs is a question of its stubs."""
    return Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}")


def guard() -> Finding:
    """Builds and loads the guard, as every start does."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            guard_environment(Path(folder), Path(folder, "gate"), Path(folder, "cancelled"))
    except GuardError as error:
        return Finding("guard", "missing", error.problem, error.remedy)
    return Finding("guard", "ok", "is built by the C compiler, and can be loaded")


def memory() -> Finding:
    """The host's memory: encoder, codes on a CPU, caches."""
    has = psutil.virtual_memory()
    return _room("memory", has.available, has.total, _LEAST_MEMORY, "end what uses it, or take a larger machine")


def shared_memory() -> Finding:
    """What tritonserver and its Python processes exchange requests through."""
    has = shutil.disk_usage(SHARED_MEMORY)
    return _room(str(SHARED_MEMORY), has.free, has.total, _LEAST_SHARED_MEMORY, "docker run --shm-size=1g ...")


def open_files() -> Finding:
    """Every connection is one. The server takes the hard limit, whatever the soft one is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return Finding("open files", "ok", "as many as are wanted")
    detail = f"at most {most:,} a process, one for each connection"
    if most >= _LEAST_FILES:
        return Finding("open files", "ok", detail)
    remedy = "ulimit -Hn 65536 as root, docker run --ulimit nofile=65536 ..."
    return Finding("open files", "fault", f"{detail}; expected at least {_LEAST_FILES:,}", remedy)


def disk(store: Path) -> Finding:
    """Room where the store is, or will be made."""
    folder = next(place for place in (store.absolute(), *store.absolute().parents) if place.is_dir())
    has = shutil.disk_usage(folder)
    return _room("disk", has.free, has.total, _LEAST_DISK, "tridex serve --store FOLDER", f" at {store}")


def port(name: str, host: str, number: int) -> Finding:
    """One of the ports that the launcher holds."""
    try:
        with reserved({name: (host, number)}):
            return Finding(f"{name} port", "ok", f"{number} on {host} is free")
    except ServerError as error:
        return Finding(f"{name} port", "fault", str(error), f"tridex serve --{name}-port PORT")


def secrets(settings: ServerSettings) -> Finding:
    """The files of API keys and certificates, where the settings name them."""
    try:
        Access.of_a_start(settings.api_key_file)
        server_context(settings, for_clients_of_ours=True)
    except (KeyFileError, ServerError) as error:
        return Finding("keys and TLS", "fault", str(error), "mend the file, or name another")
    given = " and ".join(
        name for name, file in (("API keys", settings.api_key_file), ("a certificate", settings.tls_cert)) if file
    )
    return Finding("keys and TLS", "ok", f"{given} can be used" if given else "none asked for")


def log(settings: ServerSettings) -> Finding:
    """The log that the settings name; the one beside the store is made with it."""
    if settings.log and settings.log.is_dir():
        return Finding("log", "fault", f"{settings.log} is a folder", "tridex serve --log FILE")
    return Finding("log", "ok", str(settings.log or "beside the store"))


def repository(folder: Path, extra: str) -> Finding:
    """The model repository with an exported encoder. `extra` installs what reads it."""
    try:
        from tridex.serving.server.preflight import check_repository
    except (ImportError, OSError, AttributeError):
        return Finding("encoder", "missing", "cannot be read without ONNX Runtime", f"pip install 'tridex[{extra}]'")
    try:
        check_repository(folder)
    except ServerError as error:
        remedy = f"pip install 'tridex[demo,export]' && tridex export default --repository {os.fspath(folder)}"
        return Finding("encoder", "missing", str(error), remedy)
    return Finding("encoder", "ok", f"exported, in {folder}")


def _room(what: str, free: int, total: int, least: int, remedy: str, where: str = "") -> Finding:
    detail = f"{free / _GIB:,.1f} of {total / _GIB:,.1f} GiB free{where}"
    if free >= least:
        return Finding(what, "ok", detail)
    return Finding(what, "fault", f"{detail}; expected at least {least / _GIB:g}", remedy)
