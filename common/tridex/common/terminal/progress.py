"""A progress bar with a rate, on stderr so that stdout stays the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import length_hint
from typing import Any, Generic, TextIO, TypeVar, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

T = TypeVar("T")


class Counted(Generic[T]):
    """An iterable with the number of items that it is expected to have, for a progress bar."""

    def __init__(self, items: Iterable[T], count: int) -> None:
        self._items = items
        self._count = count

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    def __length_hint__(self) -> int:
        return self._count


def expected_count(items: Iterable[Any]) -> int | None:
    """How many items an iterable says that it has, None where it does not say (PEP 424)."""
    count = length_hint(items, -1)
    return count if count >= 0 else None


class BestEffort:
    """A stream whose failures stop no work: standard error may lead to a full disk, or be closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Rate(ProgressColumn):
    """Items per second: over the last half minute while running, over everything at the end."""

    def render(self, task: Task) -> Text:
        speed = task.completed / task.finished_time if task.finished_time else task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def progress(items: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar, where it is `shown`; gives the function to call with the number of items of each batch.

    It comes with the first of them, so that what fails before prints one line.

    Args:
        items: What is counted, in a word.
        total: How many items are expected, None where that is not known.
        shown: Whether there is a bar at all.
    """
    if not shown or sys.stderr is None:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    console = Console(file=cast(TextIO, BestEffort(sys.stderr)))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(items, total=total, visible=False)
        yield lambda count: bar.update(task, advance=count, visible=True)
        bar.update(task, total=bar.tasks[0].completed)
