"""Whether a collection's files are corrupt, or merely could not be read just now."""

from __future__ import annotations

import time
from pathlib import Path

import lance

from .failure_kinds import is_of_storage, reason_of, tells_of_files

_REMEMBERED_S = 10.0
"""How long a result is remembered: looking takes 1 ms a file."""

_MAX_REMEMBERED = 64

_results: dict[Path, tuple[float, str | None]] = {}
"""By folder: when it was looked at, and what was found."""


def find_corruption(folder: Path) -> str | None:
    """What keeps a collection's newest version from being read; None where nothing does.

    Opens it with nothing cached, and reads its list of files, both ends of each file, and all marks of deleted rows.
    """
    looked_at, found = _results.get(folder, (-_REMEMBERED_S, None))
    if time.monotonic() < looked_at + _REMEMBERED_S:
        return found
    found = None
    try:
        dataset = lance.dataset(str(folder))
        dataset.validate()  # type: ignore[no-untyped-call]
        for fragment in dataset.get_fragments():
            if rows := fragment.count_rows():
                fragment.take([0, rows - 1])
    except BaseException as error:
        if not is_of_storage(error):
            raise
        found = reason_of(error) if tells_of_files(error) else None
    _results.pop(folder, None)
    _results[folder] = (time.monotonic(), found)
    while len(_results) > _MAX_REMEMBERED:
        _results.pop(next(iter(_results)), None)
    return found
