"""Explained hits as an SVG image: excerpts with the words that were found, and what each word of the query brings.

An image cannot break lines, so lines are measured in cells of a monospaced font, as a terminal measures them. Words are
marked by their colour, weight and a line below, never by boxes behind them: only the viewer knows how wide text of any
script is, and in which direction it runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.cells import cell_len

from tridex.client.results import Hit

from .html import escaped
from .pieces import Piece, QueryWord, excerpt, explained, query_words

_CELLS = 84
"""Of a line of text."""
_CHARACTERS = 5 * _CELLS
"""Of an excerpt."""
_CELL, _LINE, _MARGIN = 8.4, 20, 24
"""Pixels; _CELL is the width of a character of 14 pixels."""
_WIDTH = round(_CELLS * _CELL) + 2 * _MARGIN
_LABEL, _BAR = 200, 240
"""Pixels of a query word's name, and of the longest bar."""

_WORD = re.compile(r"\S+\s*|\s+")


def explanations_svg(query: str | None, hits: Iterable[Hit]) -> str:
    """An image that shows which words of each hit the query found.

    Args:
        query: As it was searched for; None where it was token embeddings.
        hits: Those without an explanation are left out.

    Raises:
        InvalidArgument: A hit has an explanation and no text.
    """
    y = 2 * _LINE
    drawn = [_text(_MARGIN, y, _cut(query or "Token embeddings", _CELLS - 10), "query")]
    y += _LINE
    for rank, (hit, text, explanation) in enumerate(explained(hits), 1):
        y += _LINE
        share = f"{explanation.special_share:.0%} by special tokens"
        drawn += [
            _text(_MARGIN, y, f"{rank}  {_cut(hit.id, _CELLS - 40)}", "id"),
            _text(_WIDTH - _MARGIN, y, f"{share}   {hit.score:,.3f}", "score"),
        ]
        for line in _lines(excerpt(text, explanation, _CHARACTERS)):
            y += _LINE
            drawn.append(f'<text x="{_MARGIN}" y="{y}">{"".join(map(_tspan, line))}</text>')
        words = query_words(query or "", explanation)
        y += _LINE // 2
        for word in words:
            y += _LINE
            drawn += _bar(y, word, max(abs(other.contribution) for other in words))
        y += _LINE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + _LINE}" width="{_WIDTH}" '
        f'height="{y + _LINE}" role="img">\n<title>{escaped(query or "Token embeddings")}</title>\n'
        f"<style>{_STYLE}</style>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escaped(text)}</text>'


def _tspan(piece: Piece) -> str:
    kind = "" if piece.is_read else "unread"
    if piece.weight > 0:
        kind = "strong" if piece.weight > 0.5 else "weak"
    return f'<tspan class="{kind}">{escaped(piece.text)}</tspan>' if kind else f"<tspan>{escaped(piece.text)}</tspan>"


def _bar(y: float, word: QueryWord, largest: float) -> list[str]:
    length = _BAR * max(word.contribution, 0.0) / (largest or 1.0)
    at = _MARGIN + _LABEL
    return [
        _text(at - 10, y, _cut(word.text, 20), "word"),
        f'<rect x="{at}" y="{y - 11}" width="{length:.1f}" height="12" rx="2" fill="#00796b"/>',
        _text(at + length + 8, y, f"{word.contribution:.2f}  {_cut(word.found, 24)}", "found"),
    ]


def _lines(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Broken between words; a word that is longer than a line anywhere."""
    lines: list[list[Piece]] = [[]]
    left = _CELLS
    for piece in pieces:
        for word in _WORD.findall(piece.text):
            for part in _parts(word):
                if cell_len(part.rstrip()) > left:
                    lines.append([])
                    left = _CELLS
                lines[-1].append(replace(piece, text=part))
                left -= cell_len(part)
    return lines


def _parts(word: str) -> Sequence[str]:
    """A word, or its characters where it is too long for a line: text without spaces."""
    return [word] if cell_len(word) <= _CELLS // 3 else list(word)


def _cut(text: str, cells: int) -> str:
    line = " ".join(text.split())
    if cell_len(line) <= cells:
        return line
    while cell_len(line) >= cells:
        line = line[:-1]
    return f"{line}…"


_STYLE = """
text { font: 14px ui-monospace, 'DejaVu Sans Mono', monospace; fill: #1c2321; white-space: pre; unicode-bidi: isolate; }
.query { font-size: 18px; font-weight: 700; }
.id { font-weight: 700; }
.score { text-anchor: end; fill: #68706c; }
.strong { font-weight: 700; fill: #b24a00; text-decoration: underline; }
.weak { fill: #b24a00; text-decoration: underline; }
.unread { fill: #9aa39f; }
.word { text-anchor: end; }
.found { fill: #68706c; }
"""
