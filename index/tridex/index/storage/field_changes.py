"""Changing the fields of a collection that has documents: their columns are made from the metadata that is stored.

Three transactions, of which the second alone has an effect: new columns, which no specification names yet; the
specification that names them; and the removal of columns that none names any more, also those of a process that was
killed in between. Nothing is encoded, and no row moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import lance
import pyarrow as pa

from tridex.common.fields import MAX_FIELDS, Fields, FieldType, short
from tridex.index.errors import InvalidDocumentError, InvalidFieldError

from .document_rows import decode_documents
from .fields import arrow_type, column_name, column_values, is_column
from .spec import CollectionSpec, written

_ROWS_PER_READ = 1024

_ATTEMPTS = 5
"""How often the change is tried where the text index is extended at the same time."""


def changed_fields(fields: Fields, changes: Mapping[str, FieldType | None]) -> dict[str, FieldType]:
    """The fields after changes: a new type for each name, or None to let the field go.

    Raises:
        InvalidFieldError: A field to let go is none, or there would be too many.
    """
    for name, kind in changes.items():
        if kind is None and name not in fields:
            existing = ", ".join(fields) or "none"
            raise InvalidFieldError(f"fields has {short(name)}; expected a field of the collection: {existing}")
    after = {name: kind for name, kind in {**fields, **changes}.items() if kind is not None}
    if len(after) > MAX_FIELDS:
        raise InvalidFieldError(f"fields would be {len(after)}; expected at most {MAX_FIELDS} of a collection")
    return after


def change_fields(dataset: lance.LanceDataset, spec: CollectionSpec, fields: Fields) -> None:
    """Gives a collection other fields.

    Args:
        dataset: The collection's, at the newest version; it moves to the version that this makes.
        spec: Its specification.
        fields: All that it is to have.

    Raises:
        InvalidFieldError: A stored value does not fit its field; the message names the document. Nothing is changed.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return _change(dataset, spec, fields)
        except OSError as error:
            if "conflict" not in str(error).lower() or attempt == _ATTEMPTS - 1:
                raise
            dataset.checkout_latest()  # type: ignore[no-untyped-call]
    return None


def _change(dataset: lance.LanceDataset, spec: CollectionSpec, fields: Fields) -> None:
    taken = {*filter(is_column, dataset.schema.names)}
    free = (name for number in range(len(taken) + len(fields)) if (name := column_name(number)) not in taken)
    kept = {name: spec.columns[name] for name, kind in fields.items() if spec.fields.get(name) is kind}
    columns = {name: kept.get(name) or next(free) for name in fields}
    if made := {name: fields[name] for name in fields if name not in kept}:
        _add_columns(dataset, made, columns)
    dataset.update_schema_metadata(written(replace(spec, fields=fields, columns=columns)))
    if unused := [name for name in dataset.schema.names if is_column(name) and name not in columns.values()]:
        dataset.drop_columns(unused)


def _add_columns(dataset: lance.LanceDataset, fields: Fields, columns: Mapping[str, str]) -> None:
    schema = pa.schema([pa.field(columns[name], arrow_type(kind)) for name, kind in fields.items()])
    failures: list[InvalidDocumentError] = []

    @lance.batch_udf(output_schema=schema)
    def columns_of(rows: pa.RecordBatch) -> pa.RecordBatch:
        documents = decode_documents(pa.table(rows))
        try:
            values = [column_values(fields, document.id, document.metadata) for document in documents]
        except InvalidDocumentError as error:
            failures.append(error)
            raise
        made = [pa.array([row[i] for row in values], kind) for i, kind in enumerate(schema.types)]
        return pa.record_batch(made, schema=schema)

    try:
        dataset.add_columns(columns_of, read_columns=["id", "metadata"], batch_size=_ROWS_PER_READ)
    except BaseException:  # Lance's own, whatever a failing function becomes on its way through Rust
        if failures:
            raise InvalidFieldError(f"fields: {failures[0]}") from failures[0]
        raise
