"""The door: who sends a request, by the key in its header."""

from __future__ import annotations

import hmac
import logging
from pathlib import Path
from typing import Any

from tridex.protocol.error_tags import ErrorTag
from tridex.serving.forwarded_headers import AUTHORIZATION

from .callers import EVERYBODY, AccessError, Caller
from .key_file import KeyFileError, digest, read_keys

_SCHEME = "bearer "

_log = logging.getLogger(__name__)


class Access:
    """Knows the keys of a file, and follows its changes; without a file everybody may do everything.

    A changed file that cannot be used changes nothing: the log says why, once.
    Raises KeyFileError where the file cannot be used at first.
    """

    @classmethod
    def of_a_start(cls, file: Path | None) -> Access:
        """Of a server that starts: a file without keys, which lets nobody in, is a KeyFileError, too."""
        access = cls(file)
        if file is not None and not access._callers:
            raise KeyFileError(f"the key file {file} has no keys: `tridex api-key` makes one")
        return access

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seen = self._state()
        self._callers = [] if file is None else _callers(file)

    def caller(self, header: Any) -> Caller:
        """Who sends a request with this header, "Bearer KEY", None where it has none. Raises AccessError."""
        if self._file is None:
            return EVERYBODY
        self._follow(self._file)
        if not isinstance(header, str) or not header.lower().startswith(_SCHEME):
            raise AccessError(ErrorTag.UNAUTHENTICATED, f"expected an API key: the header {AUTHORIZATION}: Bearer KEY")
        given = digest(header[len(_SCHEME) :].strip())
        # Every key is compared, each in constant time.
        found = [caller for digested, caller in self._callers if hmac.compare_digest(digested, given)]
        if not found:
            raise AccessError(ErrorTag.UNAUTHENTICATED, "the API key is not known")
        return found[0]

    def _follow(self, file: Path) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._callers = _callers(file)
        except KeyFileError as error:
            _log.error("%s; the keys before the change stay", error)
        else:
            _log.log(logging.INFO if self._callers else logging.WARNING, "%d API keys were read", len(self._callers))

    def _state(self) -> tuple[int, ...] | None:
        """What changes with the file (1 µs); None where it is not there."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode


def _callers(file: Path) -> list[tuple[str, Caller]]:
    return [(key.sha256, Caller(name, key)) for name, key in read_keys(file).items()]
