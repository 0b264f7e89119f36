"""What a build shows meanwhile, on stderr: a bar for each stage, its rate, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.text import Text


class _Rate(bars.ProgressColumn):
    """Documents a second."""

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Progress:
    """Bars on a console, or nothing where it is quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)

    @contextmanager
    def stage(self, name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        """Gives a function that is told how many documents came. `total` is None where nobody knows; `done` were there
        before, and say nothing about the rate."""
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            _Rate(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        )
        # The rate of the last minutes: a transaction takes many seconds.
        with bars.Progress(*columns, console=self._console, speed_estimate_period=300) as shown:
            task = shown.add_task(name, total=total, completed=done)
            yield lambda count: shown.advance(task, count)
