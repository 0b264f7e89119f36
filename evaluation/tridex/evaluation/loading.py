"""Judged collections by their names on the command line. A further kind is a module with a loader and an entry here."""

from __future__ import annotations

from pathlib import Path

from .beir import load_beir
from .dataset import Dataset
from .public_datasets import load_public

_LOADERS = {"ir_datasets:": load_public}
"""By what stands in front of the name; what has nothing in front is a folder."""


def load_dataset(source: str | Path, split: str | None = None) -> Dataset:
    """Reads queries and judgements; the corpus is read when it is asked for.

    Args:
        source: A folder in BEIR's layout, or ir_datasets:NAME.
        split: Which queries; "test" of a folder where it is None.

    Raises:
        DatasetError: A file is missing or malformed, nothing is judged, or a judged query has no text.
    """
    for prefix, load in _LOADERS.items():
        if str(source).startswith(prefix):
            return load(str(source).removeprefix(prefix), split)
    return load_beir(Path(source), split)
