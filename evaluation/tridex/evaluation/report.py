"""What a comparison found, as plain values: what the table and the page show, what `--json` prints, what tune reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tridex.common import TridexError


class ReportError(TridexError):
    """A file that is not a comparison's JSON."""


@dataclass(frozen=True)
class Row:
    """One system over one judged collection, or on average over several."""

    system: str
    codec: str | None
    """None where the system keeps no token embeddings."""
    pooling_factor: int
    strategy: str
    measures: dict[str, float]
    p_values: dict[str, float]
    """Of a paired test against the baseline, by measure, corrected for the number of systems; empty for the baseline
    itself and for averages."""
    p50_ms: float
    p95_ms: float
    p99_ms: float
    bytes_per_document: float | None
    """On the device; None where the system keeps nothing there."""
    budget_bytes_per_document: float | None
    """What a server's memory budget must hold for it; None where the server keeps nothing on the device."""


@dataclass(frozen=True)
class DatasetReport:
    """Every system over one judged collection."""

    name: str
    split: str
    documents: int
    queries: int
    rows: list[Row]


@dataclass(frozen=True)
class Report:
    """Every system over every judged collection."""

    encoder: str
    """The served checkpoint."""
    baseline: str
    """The system that the others are tested against."""
    measures: list[str]
    """The first is the one that is plotted and tuned for."""
    collections: list[DatasetReport]

    @property
    def average(self) -> list[Row]:
        """Each system's mean of every figure over the collections; the rows of a single one as they are."""
        if len(self.collections) == 1:
            return self.collections[0].rows
        return [_mean(rows) for rows in zip(*(one.rows for one in self.collections), strict=True)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, the averages beside the rest."""
        return {**asdict(self), "average": [asdict(row) for row in self.average]}

    @classmethod
    def from_dict(cls, given: Any) -> Report:
        """The inverse of to_dict. Raises ReportError, also where nothing was measured or a figure is no number."""
        try:
            collections = [
                DatasetReport(**{**one, "rows": [_row(row) for row in one["rows"]]}) for one in given["collections"]
            ]
            if not collections or not given["measures"]:
                raise ValueError("no collections, or no measures")
            return cls(given["encoder"], given["baseline"], given["measures"], collections)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ReportError(f"expected what `tridex compare --json` prints ({error!r})") from error


def _row(given: Mapping[str, Any]) -> Row:
    row = Row(**given)
    for name, value in (*row.measures.items(), ("p50_ms", row.p50_ms), ("p95_ms", row.p95_ms), ("p99_ms", row.p99_ms)):
        # What was not a number is null.
        if not isinstance(value, (int, float)):
            raise TypeError(f"{name} of {row.system} is {value!r}")
    return row


def _mean(rows: Sequence[Row]) -> Row:
    return Row(
        rows[0].system,
        rows[0].codec,
        rows[0].pooling_factor,
        rows[0].strategy,
        _mean_of_each([row.measures for row in rows]),
        {},
        *(float(np.mean([getattr(row, name) for row in rows])) for name in ("p50_ms", "p95_ms", "p99_ms")),
        *(_mean_or_none([getattr(row, name) for row in rows]) for name in _SIZES),
    )


_SIZES = ("bytes_per_document", "budget_bytes_per_document")


def _mean_of_each(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([value[name] for value in values])) for name in values[0]}


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
