"""SHA-256 of a collection's files, which are written once and never changed: Lance itself keeps none.

FOLDER/SHA256SUMS    a line for each file, as `sha256sum` writes and checks them

A sum is recorded soon after its file was written, by who writes: ingest behind its writes, a bulk build at its end. A
file without one is read like the others, but a changed bit in it may go unseen.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import lance

from .codebook_file import codebook_name

SUMS = "SHA256SUMS"

_BLOCK_BYTES = 1 << 20


def files_of(dataset: lance.LanceDataset, codebook: str | None) -> list[str]:
    """Every file that a collection consists of at its dataset's version, by its path in the collection's folder.

    Args:
        codebook: The SHA-256 of its codebook, where it has one.
    """
    tracked = dataset.tracked_files(min_version=dataset.version).read_all()
    versions, paths = tracked["version"].to_pylist(), tracked["path"].to_pylist()
    files = {path for path, version in zip(paths, versions, strict=True) if version == dataset.version}
    return sorted(files | ({codebook_name(codebook)} if codebook else set()))


def record_sums(folder: Path, files: Iterable[str], most_bytes: float) -> bool:
    """Records the sums of those of `files` that have none, and forgets other files.

    Args:
        folder: The collection's.
        files: All that it consists of.
        most_bytes: When so many were read, the rest is left to the next call.

    Returns:
        Whether a rest is left.
    """
    sums_file = folder / SUMS
    known = read_sums(sums_file)
    sums = {}
    complete = True
    for file in files:
        if file in known:
            sums[file] = known[file]
        elif most_bytes <= 0:
            complete = False
        else:
            most_bytes -= (folder / file).stat().st_size
            sums[file] = sha256_of(folder / file)
    if sums != known:
        write_sums(sums_file, sums)
    return not complete


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal (1.7 GB/s)."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_sums(path: Path) -> dict[str, str]:
    """The sums of a file of sums, by path; none where there is no such file. What is no line of it counts as a path."""
    try:
        return sums_in(path.read_text(errors="replace"))
    except FileNotFoundError:
        return {}


def sums_in(lines: str) -> dict[str, str]:
    """The sums that these lines say, by path."""
    split = [line.partition("  ") for line in lines.splitlines()]
    return {name or sha256: sha256 for sha256, _, name in split}


def lines_of(sums: Mapping[str, str]) -> str:
    """A line for each sum, sorted by path."""
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))


def write_sums(path: Path, sums: Mapping[str, str]) -> None:
    """Writes a file of sums, as `write_whole`."""
    write_whole(path, lines_of(sums))


def write_whole(path: Path, text: str) -> None:
    """Writes a file, whole or not at all."""
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with staged.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)
