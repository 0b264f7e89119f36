"""Files that hold secrets: for their owner alone."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tridex.common import TridexError


class LooseFileError(TridexError):
    """Others may read or change a file that must be private."""


def check_private(file: Path) -> None:
    """Raises LooseFileError where others can read or change the file, and OSError, also where it is a folder.

    The group may read what belongs to root, as a secret that is mounted into a container does.
    """
    status = file.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
    allowed = 0o640 if status.st_uid == 0 else 0o600
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077 & ~allowed:
        raise LooseFileError(f"{file} has mode {mode:04o}; expected {allowed:04o} or less: chmod {allowed:o} {file}")
    if status.st_uid not in (0, os.geteuid()):
        raise LooseFileError(f"{file} belongs to user {status.st_uid}; expected it to be root's or the server's own")
