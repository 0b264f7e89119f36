"""Fields inferred from documents, as a collection infers them: of several, all count or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tridex.common.field_inference import FieldInference
from tridex.common.fields import FieldValueError
from tridex.index.errors import InvalidDocumentError

from .document_rows import Document


class DocumentInference(FieldInference):
    """Of the index's documents."""

    def add(self, key: str, metadata: Mapping[str, Any]) -> None:
        """Raises InvalidDocumentError."""
        try:
            super().add(key, metadata)
        except FieldValueError as error:
            raise InvalidDocumentError(str(error)) from None

    def add_all(self, documents: Sequence[Document]) -> None:
        """`add` of several documents, or of none of them where it raises."""
        before = dict(self._fields), set(self._no_fields), set(self._lists)
        try:
            for document in documents:
                self.add(document.id, document.metadata)
        except InvalidDocumentError:
            self._fields, self._no_fields, self._lists = before
            raise
