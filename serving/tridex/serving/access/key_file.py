"""The file of API keys: a TOML table for each, by its name.

    [frontend]
    sha256 = "9f86d0…"                  # of the key, in hexadecimal
    rights = ["read"]                   # read, write, admin
    collections = ["docs", "team-a-*"]  # names, or beginnings of names

Keys are random, 32 bytes, so a plain SHA-256 of one tells nothing about it: only what people choose needs a slow hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tridex.common import TridexError
from tridex.protocol import limits
from tridex.serving.private_files import LooseFileError, check_private

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EVERY = "*"
"""At the end of a pattern: whatever follows."""


class KeyFileError(TridexError):
    """The file of keys cannot be used."""


class Right(str, Enum):
    """What a key allows. None implies another."""

    READ = "read"
    """To search, encode, rerank, and look at documents and collections."""
    WRITE = "write"
    """To upsert and delete documents and change their metadata; an upsert may make a collection."""
    ADMIN = "admin"
    """To create, drop and compact collections, and to change fields and aliases."""


class Key(BaseModel):
    """An entry of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    rights: tuple[Right, ...] = Field(min_length=1)
    collections: tuple[str, ...] = Field(min_length=1)

    def covers(self, name: str) -> bool:
        """Whether a collection or alias of this name is among those that the key is for."""
        return any(
            name.startswith(pattern[:-1]) if pattern.endswith(EVERY) else name == pattern
            for pattern in self.collections
        )


_KEYS = TypeAdapter(dict[str, Key])


def digest(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(file: Path) -> dict[str, Key]:
    """The keys by their names. Raises KeyFileError, also where others may read the file."""
    try:
        check_private(file)
        keys = _KEYS.validate_python(tomllib.loads(file.read_text(encoding="utf-8")))
    except LooseFileError as error:
        raise KeyFileError(f"the key file {error}") from error
    except OSError as error:
        raise KeyFileError(f"the key file {file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise KeyFileError(f"the key file {file} has a bad {place}: {first['msg']}") from None
    except ValueError as error:
        raise KeyFileError(f"the key file {file} is no TOML: {error}") from error
    for name, key in keys.items():
        for pattern in key.collections:
            _check_pattern(f"the key file {file} has a bad {name}.collections: ", pattern)
    return keys


def add_key(file: Path, name: str, rights: Sequence[Right], collections: Sequence[str]) -> str:
    """Adds a new key to the file, which is made where there is none, and returns it. Raises KeyFileError.

    Where several are added at once, one waits for the other.
    """
    if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", name):
        raise KeyFileError(f"the key's name is {name!r}; expected 1 to 64 letters, digits, '-' or '_'")
    for pattern in collections:
        _check_pattern("", pattern)
    key = f"tridex_{secrets.token_urlsafe(32)}"
    rows = (
        f"[{name}]",
        f'sha256 = "{digest(key)}"',
        f"rights = {[right.value for right in rights]}",
        f"collections = {list(collections)}",
    )
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            if name in read_keys(file):
                raise KeyFileError(f"the key file {file} has a key {name!r} already; expected another name")
            before = file.read_text(encoding="utf-8")
            opened.write(("\n" if before and not before.endswith("\n") else "") + "\n".join(rows) + "\n\n")
    except OSError as error:
        raise KeyFileError(f"the key file {file} cannot be written: {error.strerror}") from error
    return key


def _check_pattern(place: str, pattern: str) -> None:
    if pattern != EVERY and not limits.COLLECTION_NAME.fullmatch(pattern.removesuffix(EVERY)):
        raise KeyFileError(f"{place}{pattern!r} is no collection; expected a name, or its beginning and '{EVERY}'")
