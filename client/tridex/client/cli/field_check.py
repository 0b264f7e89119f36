"""Whether a server will refuse documents for the values of their metadata fields, asked before any is sent."""

from __future__ import annotations

from collections.abc import Mapping

from tridex.client.results import CollectionInfo
from tridex.common.field_inference import INFERRED_DOCUMENTS, FieldInference
from tridex.common.fields import FieldType, FieldValueError, field_values
from tridex.protocol.corpus import CorpusDocument, CorpusError

_TYPES = {kind.value: kind for kind in FieldType}


class FieldCheck:
    """Checks documents in their order, as far as it follows from the collection what will be refused.

    That is all where a collection's fields are fixed. A new one infers them from its first documents, which are
    compared with each other; of those that follow, and of a collection that has some and may infer more, the server
    alone knows.

    Args:
        collection: The one that the documents go to, None where it is to be made.
        declared: Fields that are added to it before.
    """

    def __init__(self, collection: CollectionInfo | None, declared: Mapping[str, str]) -> None:
        existing, count = (collection.fields, collection.count) if collection else ({}, 0)
        kinds = {**existing, **declared}
        # A newer server may have types of its own.
        self._fields = {name: _TYPES[kind] for name, kind in kinds.items() if kind in _TYPES}
        infers = collection.infers_fields if collection else not declared
        self._is_fixed = not infers or count >= INFERRED_DOCUMENTS
        self._inference = FieldInference(self._fields)
        self._to_infer = INFERRED_DOCUMENTS if infers and not count and len(self._fields) == len(kinds) else 0

    def check(self, place: str, row: CorpusDocument) -> None:
        """Raises CorpusError."""
        try:
            if self._is_fixed:
                field_values(self._fields, row.id, row.metadata)
            elif self._to_infer:
                self._inference.add(row.id, row.metadata)
                self._to_infer -= 1
        except FieldValueError as error:
            raise CorpusError(f"{place}: {error}") from None
