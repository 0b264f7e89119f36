"""Explained hits on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tridex.client.rendering.pieces import Piece, excerpt, explained, query_words
from tridex.client.results import Hit
from tridex.common.terminal.output import printable, to_stdout

_LINES = 4
"""Of an excerpt."""
_INDENT = 3


def print_explained(query: str, hits: Iterable[Hit]) -> None:
    """Prints each hit with the words that the query found in it: in colour, or in brackets where there is none."""
    console = Console(highlight=False)
    has_colour = console.is_terminal and not console.no_color
    with to_stdout():
        for rank, (hit, stored, explanation) in enumerate(explained(hits), 1):
            head = Table.grid(expand=True)
            head.add_column(ratio=1, overflow="fold")
            head.add_column(justify="right", no_wrap=True)
            head.add_row(
                Text(f"{rank:<{_INDENT}}{printable(hit.id)}", style="bold"),
                Text(f"{explanation.special_share:.0%} by special tokens  {hit.score:,.3f}"),
            )
            shown = excerpt(stored, explanation, _LINES * (console.width - _INDENT))
            found = [
                f"{printable(word.text)} → {printable(word.found)} {word.contribution:.2f}"
                for word in query_words(query, explanation)
            ]
            lines = Text("\n").join(Text(line, style="dim") for line in _filled(found, console.width - _INDENT))
            console.print(head)
            for text in (Text.assemble(*(_styled(piece, has_colour) for piece in shown)), lines):
                if text:
                    console.print(Padding(text, (0, 0, 0, _INDENT), expand=False))
            console.print()


def _filled(items: Iterable[str], width: int) -> list[str]:
    """Lines of items, none of which is broken."""
    lines: list[str] = []
    for item in items:
        longer = f"{lines[-1]}   {item}" if lines else item
        if lines and cell_len(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(item)
    return lines


def _styled(piece: Piece, has_colour: bool) -> Text:
    text = piece.text
    if piece.weight <= 0:
        return Text(text, style="" if piece.is_read else "dim")
    if not has_colour:
        return Text(f"[{text}]")
    return Text(text, style="bold black on yellow" if piece.weight > 0.5 else "bold yellow")
