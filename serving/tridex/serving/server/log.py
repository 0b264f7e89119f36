"""The server's log: what tritonserver, its models and the launcher write, start after start."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from .errors import ServerError

_WITHOUT_A_GPU = re.compile("CudaDriverHelper|unable to create stream")
"""What tritonserver reports on every start where it sees no GPU."""


class Log:
    """An open log, appended to; its owner alone can read it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @property
    def size(self) -> int:
        """Bytes."""
        return os.fstat(self.descriptor).st_size

    def write(self, text: str) -> None:
        """Adds a line by the launcher."""
        with contextlib.suppress(OSError):  # as where the disk is full
            os.write(self.descriptor, f"---- {datetime.now():%Y-%m-%d %H:%M:%S} tridex serve: {text}\n".encode())

    def cause(self, since: int) -> str:
        """The first error after `since` bytes, without its timestamp, or else the last line not of Triton server."""
        lines: list[str] = []
        if self.path.is_file():
            with self.path.open("rb") as log:
                log.seek(since)
                lines = log.read().decode(errors="replace").splitlines()
        errors = [re.sub(r"^E\d{4} .*?\] ", "", line) for line in lines if re.match(r"E\d{4} ", line)]
        others = [line for line in lines if line and not re.match(r"[A-Z]\d{4} |[-+|]", line)]
        causes = (
            [error for error in errors if not _WITHOUT_A_GPU.search(error)] or others[-1:] or ["No error was logged."]
        )
        return f"{causes[0]} The log: {self.path}"


@contextmanager
def open_log(path: Path) -> Iterator[Log]:
    """The log at this path, which is made where there is none. Raises ServerError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except IsADirectoryError as error:
        raise ServerError(f"the log {path} is a folder; choose a file by --log") from error
    except FileExistsError as error:
        raise ServerError(f"the log's folder {path.parent} is a file; choose another log by --log") from error
    except OSError as error:
        raise ServerError(f"the log {path} cannot be written: {error.strerror}; choose another by --log") from error
    try:
        if path.is_file() and os.fstat(descriptor).st_uid == os.geteuid():
            os.fchmod(descriptor, 0o600)
        yield Log(path, descriptor)
    finally:
        os.close(descriptor)
