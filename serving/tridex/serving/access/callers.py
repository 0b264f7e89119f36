"""Who calls, and what a request needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tridex.common import TridexError
from tridex.protocol import models, parameters
from tridex.protocol.error_tags import ErrorTag
from tridex.protocol.parameters import CatalogOperation, IngestOperation

from .key_file import EVERY, Key, Right


class AccessError(TridexError):
    """A request is refused: UNAUTHENTICATED or PERMISSION_DENIED."""

    def __init__(self, tag: ErrorTag, message: str) -> None:
        super().__init__(message)
        self.tag = tag


OPERATIONS: Mapping[str, Mapping[Enum, Right]] = {
    models.INGEST.name: {
        IngestOperation.UPSERT: Right.WRITE,
        IngestOperation.DELETE: Right.WRITE,
        IngestOperation.CLEAR: Right.WRITE,
        IngestOperation.UPDATE_METADATA: Right.WRITE,
        IngestOperation.CHANGE_FIELDS: Right.ADMIN,
        IngestOperation.CREATE: Right.ADMIN,
        IngestOperation.DROP: Right.ADMIN,
        IngestOperation.SET_ALIAS: Right.ADMIN,
        IngestOperation.DROP_ALIAS: Right.ADMIN,
        IngestOperation.COMPACT: Right.ADMIN,
    },
    models.CATALOG.name: dict.fromkeys(CatalogOperation, Right.READ),
}
"""What each operation of a model needs; models without operations read."""

_BY_WORD = {
    model: {str(operation.value): right for operation, right in needed.items()} for model, needed in OPERATIONS.items()
}


@dataclass(frozen=True)
class Caller:
    """The holder of a key."""

    name: str
    key: Key

    def check(self, model: str, given: Mapping[str, Any]) -> None:
        """Raises AccessError where the key does not allow a request to the model with these parameters.

        Both names count where a request has two: through an alias, a caller would else reach another's collection.
        """
        operation = given.get(parameters.OPERATION)
        # What is no operation is refused by the model's parser, to those who may do anything.
        right = _BY_WORD[model].get(str(operation), Right.ADMIN) if model in _BY_WORD else Right.READ
        if right not in self.key.rights:
            what = f"{model} {str(operation)[:64]!r}" if operation else model
            raise self._denied(f"the right {right.value!r}, which {what} needs")
        for parameter in (parameters.COLLECTION, parameters.ALIAS):
            name = given.get(parameter)
            if isinstance(name, str) and not self.key.covers(name):
                raise self._denied(f"{parameter} {name[:64]!r}")

    def may_read(self, collection: str) -> bool:
        """Whether lists show a collection or alias of this name."""
        return Right.READ in self.key.rights and self.key.covers(collection)

    def _denied(self, what: str) -> AccessError:
        return AccessError(ErrorTag.PERMISSION_DENIED, f"key {self.name!r} does not have {what}")


EVERYBODY = Caller("everybody", Key(sha256="0" * 64, rights=tuple(Right), collections=(EVERY,)))
"""Where no keys are asked for."""
