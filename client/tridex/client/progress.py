"""A progress bar with a rate, on stderr so that stdout stays the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text


class _Rate(ProgressColumn):
    """Items a second: over the last half minute while running, over everything at the end."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


@contextmanager
def progress(items: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """Gives a function that is told of each batch how many `items` it brought. `total` is None where nobody knows."""
    if not shown:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(items, total=total)
        yield lambda count: bar.advance(task, count)
