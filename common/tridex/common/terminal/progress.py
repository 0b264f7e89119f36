"""A progress bar with a rate, on stderr so that stdout stays the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text


class BestEffort:
    """A stream for remarks, whose failures stop no work: standard error may lead to a full disk, or to nobody."""

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
    """Items a second: over the last half minute while running, over everything at the end."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def progress(items: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told of each batch how many `items` it brought. `total` is None where nobody knows."""
    if not shown or sys.stderr is None:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    console = Console(file=cast(TextIO, BestEffort(sys.stderr)))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(items, total=total)
        yield lambda count: bar.advance(task, count)
