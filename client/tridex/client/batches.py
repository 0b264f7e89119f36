"""Batches of an iterable."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")

DEFAULT_BATCH_SIZE = 16


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last perhaps shorter; takes no item before the batch that needs it."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
