"""What an exception in reading or writing files tells. Lance passes the system's words on, and no number with them."""

from __future__ import annotations

import re

import pyarrow as pa

_DISK_FULL = re.compile(r"os error (27|28|122)\b|No space left|File too large|quota exceeded", re.IGNORECASE)
"""EFBIG, ENOSPC, EDQUOT."""

_FORBIDDEN = re.compile(r"os error (1|13|30)\b|Operation not permitted|Permission denied|Read-only file system")
"""EPERM, EACCES, EROFS."""

_TRANSIENT = re.compile(
    r"os error (4|5|11|12|23|24|110|116)\b|Interrupted system call|Input/output error|Resource temporarily unavailable|"
    r"Cannot allocate memory|Too many open files|timed out|Stale file handle",
    re.IGNORECASE,
)
"""EINTR, EIO, EAGAIN, ENOMEM, ENFILE, EMFILE, ETIMEDOUT, ESTALE: they tell of the machine, not of the files."""

_RUST_LOCATION = re.compile(r",? ?/\S+\.rs:\d+:\d+")


def is_fault(error: BaseException) -> bool:
    """Whether it tells of something that failed, not of a program that should end; a panic in Lance is no Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def is_of_storage(error: BaseException) -> bool:
    """Whether Lance may have raised it.

    It raises OSError, ValueError and Arrow's errors for files that are truncated, overwritten or missing; RuntimeError,
    TypeError or a panic where it fails itself.
    """
    kinds = (OSError, ValueError, RuntimeError, TypeError, pa.ArrowException)
    return isinstance(error, kinds) or (is_fault(error) and not isinstance(error, Exception))


def tells_of_files(error: BaseException) -> bool:
    """Whether it may be the files' fault: not the machine's, not a missing permission, not Lance's own."""
    return isinstance(error, (OSError, ValueError, pa.ArrowException)) and not is_of_machine(reason_of(error))


def is_of_machine(reason: str) -> bool:
    """Whether reading the same files may succeed at another time, or for another user."""
    return bool(_TRANSIENT.search(reason) or _FORBIDDEN.search(reason))


def is_disk_full(reason: str) -> bool:
    """Whether there was no room for a write."""
    return bool(_DISK_FULL.search(reason))


def is_forbidden(reason: str) -> bool:
    """Whether this process may not do it."""
    return bool(_FORBIDDEN.search(reason))


def reason_of(error: BaseException) -> str:
    """The error's message for a user, without the places in Lance's source code."""
    return _RUST_LOCATION.sub("", str(error)) or type(error).__name__
