"""Rows that share an id. Two servers on one store could leave some, before one writer a store was enforced."""

from __future__ import annotations

import lance
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_ROWS_PER_DELETE = 10_000


def is_newest(ids: pa.LargeStringArray, addresses: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """bool [rows]: False where a row further behind in the store has the same id, which then is the newer one."""
    newest = np.ones(len(ids), np.bool_)
    if pc.count_distinct(ids).as_py() < len(ids):  # 1 s for a million ids.
        rows = pa.table({"id": ids, "address": addresses})
        order = np.asarray(pc.sort_indices(rows, [("id", "ascending"), ("address", "ascending")]))
        ordered = ids.take(pa.array(order))
        newest[order[:-1]] = ~np.asarray(pc.equal(ordered[:-1], ordered[1:]))
    return newest


def delete_older(dataset: lance.LanceDataset, ids: pa.LargeStringArray, addresses: NDArray[np.uint64]) -> int:
    """Deletes all rows but the newest of each id, given those of the whole dataset; returns how many."""
    older = addresses[~is_newest(ids, addresses)].tolist()
    for first in range(0, len(older), _ROWS_PER_DELETE):
        some = ", ".join(map(str, older[first : first + _ROWS_PER_DELETE]))
        dataset.delete(f"_rowaddr IN ({some})")
    return len(older)
