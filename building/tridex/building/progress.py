"""The progress of a build on stderr: a bar for each stage, its rate, and the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.text import Text


class _Rate(bars.ProgressColumn):
    """Documents per second."""

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s")


class Progress:
    """Bars on a console, or nothing if it is quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet)

    @contextmanager
    def stage(self, name: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
        """A bar; yields a function that advances it by a number of documents.

        Args:
            name: What is shown before the bar.
            total: Documents of the stage; None where it is not known.
            done: Documents done by an earlier run, which do not count for the rate.
        """
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            _Rate(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        )
        # The rate over the last minutes: a transaction takes many seconds.
        with bars.Progress(*columns, console=self._console, speed_estimate_period=300) as shown:
            task = shown.add_task(name, total=total, completed=done)
            yield lambda count: shown.advance(task, count)
