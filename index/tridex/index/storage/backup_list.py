"""The list of a backup's files: their SHA-256 sums, and one of the list itself, so that no line of it can be lost.

A line for each file, as `sha256sum` writes and checks them; the last line is `# SHA-256 of the lines before`, a comment
to `sha256sum`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tridex.index.errors import BackupError

from .checksums import SUMS, lines_of, sums_in, write_whole

_END = "# "


def write_list(backup: Path, sums: Mapping[str, str]) -> None:
    """Writes the list of the backup in that folder: SHA-256 by path."""
    lines = lines_of(sums)
    write_whole(backup / SUMS, f"{lines}{_end(lines)}")


def read_list(backup: Path) -> dict[str, str]:
    """SHA-256 by path. Raises BackupError where the list is not what was written, or is missing."""
    path = backup / SUMS
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        raise BackupError(f"{path}, which lists the files of that backup, is missing") from None
    lines, _, _ = text.rpartition(_END)
    if text != f"{lines}{_end(lines)}":
        raise BackupError(f"{path}, which lists the files of that backup, is corrupt")
    return sums_in(lines)


def _end(lines: str) -> str:
    return f"{_END}{hashlib.sha256(lines.encode()).hexdigest()}\n"
