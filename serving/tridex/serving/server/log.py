"""The server's log: what tritonserver, its models and the launcher say, one record after the other.

tritonserver and its models write into a pipe, and a thread of the launcher reads records from it and writes them to the
file: so they have one form, and the file can be rotated. Where it cannot be written, as on a full disk, records are
dropped: nobody waits for a log.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import logging.handlers
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from tridex.serving.log_record import LogFormat, LogRecord, read_line

from .errors import ServerError
from .repeats import Repeats

_KEPT = 5
"""Files beside the newest, LOG.1 to LOG.5."""

_MAX_LINE = 1 << 20
"""Bytes of a line. More of one is another."""

_DRAIN_S = 0.2
"""What a process wrote before it ended has been read by then."""

_CLOSE_S = 2.0
"""How long an orphan that still holds the pipe is waited for."""

_PIPE_BYTES = 1 << 20
"""What processes can write while the launcher does not run, before they wait."""

_WITHOUT_A_GPU = re.compile(
    "CudaDriverHelper|unable to create stream|pinned system memory|CUDA memory pool|initialize NVML|DCGM|"
    "CUDA driver version|no CUDA-capable device"
)
"""What tritonserver reports on every start where it sees no GPU."""

_DECORATION = re.compile(r"[-+|= ]*|\|.*")
"""Of the tables that tritonserver draws when it starts, which say again what was said."""


class Log:
    """An open log. The file's owner alone can read it."""

    def __init__(self, path: Path, form: LogFormat, handler: logging.Handler) -> None:
        self.path = path
        self._form = form
        self._handler = handler
        self.on_gpu = True
        """Whether tritonserver is to see a GPU; else its reports of none are left out."""
        self._error: str | None = None
        self._last: str | None = None
        reading, self.descriptor = os.pipe()
        with contextlib.suppress(OSError):  # the user has too many pipes
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._thread = threading.Thread(target=self._read, args=(reading,), name="tridex-log", daemon=True)
        self._thread.start()

    def write(self, text: str, level: str = "INFO") -> None:
        """Adds a record by the launcher."""
        self._write(LogRecord("launcher", text, level, time.time()))

    def mark(self) -> None:
        """A tritonserver is about to start: `cause` is about what is logged from here on."""
        self._error = self._last = None

    def cause(self) -> str:
        """The first error since the mark, or else the last line that is no record of Triton server's."""
        time.sleep(_DRAIN_S)
        return f"{self._error or self._last or 'No error was logged.'} The log: {self.path}"

    def close(self) -> None:
        """Writes what is left. Every process that writes to the log has ended."""
        os.close(self.descriptor)
        self._thread.join(_CLOSE_S)
        with contextlib.suppress(OSError):  # as on a full disk
            self._handler.close()

    def _read(self, descriptor: int) -> None:
        repeats = Repeats()
        with os.fdopen(descriptor, "rb") as pipe:
            while line := pipe.readline(_MAX_LINE):
                text = line.decode(errors="replace").rstrip()
                record = read_line(text)
                if _DECORATION.fullmatch(record.message) or (not self.on_gpu and _WITHOUT_A_GPU.search(record.message)):
                    continue
                if record.level in ("ERROR", "CRITICAL"):
                    self._error = self._error or record.message
                elif record.message == text:
                    self._last = text
                for folded in repeats.fold(record):
                    self._write(folded)
        for folded in repeats.rest():
            self._write(folded)

    def _write(self, record: LogRecord) -> None:
        self._handler.handle(logging.makeLogRecord({"msg": record.formatted(self._form), "levelno": logging.INFO}))


class _File(logging.handlers.RotatingFileHandler):
    """Makes files that their owner alone can read and one server writes, and drops what cannot be written."""

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        if Path(self.baseFilename).is_file() and os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
        if not _is_a_device(Path(self.baseFilename)):
            _lock(descriptor)
        return os.fdopen(descriptor, "a", encoding="utf-8", errors="replace")

    def shouldRollover(self, record: logging.LogRecord) -> int:  # noqa: N802 - the library's
        """Opens the file anew where it was removed or moved away, as logrotate does."""
        if self.maxBytes and self.stream is not None and not self._is_in_place(self.stream):
            self.stream.close()
            self.stream = None
        return super().shouldRollover(record)

    def _is_in_place(self, stream: TextIOWrapper) -> bool:
        try:
            return os.path.samestat(Path(self.baseFilename).stat(), os.fstat(stream.fileno()))
        except FileNotFoundError:
            return False

    def handleError(self, record: Any) -> None:  # noqa: N802 - the library's
        """Drops it."""


def _is_a_device(path: Path) -> bool:
    """Whether it is a device or a pipe, or leads to what a process has open, as /dev/stdout does, be it a file: several
    servers may share it, and it is not ours to rename."""
    while path.exists():
        path = path.parent.resolve() / path.name
        if Path("/proc") in path.parents:
            return True
        if not path.is_symlink():
            return not path.is_file()
        path = path.parent / path.readlink()
    return False


def _lock(descriptor: int) -> None:
    """Two servers that rotate one file would rename each other's. Raises BlockingIOError where another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        pass  # the file system has no locks


@contextmanager
def open_log(path: Path, form: LogFormat, size: int) -> Iterator[Log]:
    """The log at this path, which is made where there is none, and rotated where it has so many bytes.

    Raises ServerError.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _File(path, maxBytes=0 if _is_a_device(path) else size, backupCount=_KEPT)
    except BlockingIOError as error:
        raise ServerError(f"another server writes to the log {path}; choose another by --log") from error
    except IsADirectoryError as error:
        raise ServerError(f"the log {path} is a folder; choose a file by --log") from error
    except FileExistsError as error:
        raise ServerError(f"the log's folder {path.parent} is a file; choose another log by --log") from error
    except OSError as error:
        raise ServerError(f"the log {path} cannot be written: {error.strerror}; choose another by --log") from error
    log = Log(path, form, handler)
    try:
        yield log
    finally:
        log.close()
