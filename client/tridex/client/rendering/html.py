"""Explained hits as one HTML page: no script, no font, nothing loaded from anywhere."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from string import Template

from tridex.client.explanation import Explanation, QueryToken
from tridex.client.results import Hit

from .pieces import Piece, explained, pieces

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")
"""What a page or an image must not hold: line breaks and tabs may stay."""


def explanations_html(query: str | None, hits: Iterable[Hit]) -> str:
    """One self-contained page that shows which words of each hit the query found.

    Args:
        query: As it was searched for; None where it was token embeddings.
        hits: Those without an explanation are left out.

    Raises:
        InvalidArgument: A hit has an explanation and no text.
    """
    shown = explained(hits)
    highest = max((abs(explanation.score) for _, _, explanation in shown), default=0.0) or 1.0
    longest = max((len(explanation.query_tokens) for _, _, explanation in shown), default=0)
    return _PAGE.substitute(
        title=escaped(query or "Token embeddings"),
        # Pointing at a query token outlines what it found, and the other way round.
        links="\n".join(
            f".hit:has(.q{i}:hover, .q{i}:focus) .f{i}, .hit:has(.f{i}:hover) .q{i} "
            "{ outline: 2px solid var(--accent); }"
            for i in range(longest)
        ),
        hits="\n".join(
            _hit(rank, query or "", hit, text, explanation, abs(explanation.score) / highest)
            for rank, (hit, text, explanation) in enumerate(shown, 1)
        )
        or "<p>No hit is explained.</p>",
    )


def escaped(text: str) -> str:
    """For content and quoted attributes of HTML and XML; control characters, which XML cannot hold, as U+FFFD."""
    return html.escape(_CONTROL.sub("\ufffd", text))


def _hit(rank: int, query: str, hit: Hit, text: str, explanation: Explanation, share: float) -> str:
    found = {place for span in explanation.spans for place in span.found_by}
    return _HIT.substitute(
        rank=rank,
        id=escaped(hit.id),
        score=f"{hit.score:,.3f}",
        share=f"{100 * share:.1f}",
        facts=" · ".join(_facts(hit, text, explanation)),
        tokens="".join(_token(i, token, query, i in found) for i, token in enumerate(explanation.query_tokens)),
        text="".join(map(_piece, pieces(text, explanation))),
        rows="".join(_row(i, token, explanation) for i, token in enumerate(explanation.query_tokens)),
    )


def _facts(hit: Hit, text: str, explanation: Explanation) -> Iterable[str]:
    if abs(hit.score - explanation.score) > 1e-3 * max(1.0, abs(hit.score)):
        yield f"MaxSim {explanation.score:,.3f}"
    yield f"{explanation.special_share:.0%} by special tokens"
    if not explanation.exact:
        yield "rounded or pooled embeddings"
    if explanation.read != (0, len(text)) and text[slice(*explanation.read)].strip() != text.strip():
        yield "a part of the text was not read"


def _token(place: int, token: QueryToken, query: str, has_found: bool) -> str:
    kinds = f"token q{place}" + " special" * token.is_special + " found" * has_found
    label = f"{_name(token.token)}: {_found(token)}"
    name = query[token.start : token.end] or _name(token.token) if token.start is not None else _name(token.token)
    return f'<span class="{kinds}" tabindex="0" title="{escaped(label)}">{escaped(name)}</span>'


def _piece(piece: Piece) -> str:
    text = escaped(piece.text)
    if piece.weight > 0:
        by = "".join(f" f{place}" for place in piece.found_by)
        return f'<mark class="span{by}" style="--w:{piece.weight:.2f}">{text}</mark>'
    return text if piece.is_read else f'<span class="unread">{text}</span>'


def _row(place: int, token: QueryToken, explanation: Explanation) -> str:
    found = "" if token.match is None else _name(token.match.token)
    if token.match is not None and len(token.match.cluster) > 1:
        found += f" (with {', '.join(_name(t.token) for t in token.match.cluster if t.start != token.match.start)})"
    width = 100 * _weight(token.contribution, explanation.query_tokens)
    return (
        f'<tr class="{"special" if token.is_special else "plain"}"><td class="q{place}">'
        f"<bdi>{escaped(_name(token.token))}</bdi></td><td><bdi>{escaped(found)}</bdi></td>"
        f'<td class="number">{token.similarity:.3f}</td><td class="number">{token.contribution:.3f}</td>'
        f'<td class="bar"><i style="width:{width:.1f}%"></i></td></tr>'
    )


def _found(token: QueryToken) -> str:
    if token.match is None:
        return "does not score"
    return f"{token.similarity:.3f} with {_name(token.match.token)}, brings {token.contribution:.3f}"


def _name(token: str | None) -> str:
    return token or "(unnamed)"


def _weight(contribution: float, tokens: Sequence[QueryToken]) -> float:
    """0 to 1, against the largest contribution of the hit."""
    largest = max(abs(token.contribution) for token in tokens)
    return max(contribution, 0.0) / largest if largest else 0.0


_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c2321; --paper: #fbfaf7; --card: #fff; --line: #dcd9d0; --soft: #68706c;
  --accent: #00796b; --mark: 255 193 7; --most: .85; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e0; --paper: #171a19; --card: #1f2423; --line: #3a403e; --soft: #9aa39f; --accent: #4db6ac;
    --mark: 255 179 0; --most: .45; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: 0 0 1.25rem; overflow-wrap: anywhere; }
h1 small { display: block; font-size: .8rem; font-weight: 400; color: var(--soft); margin-bottom: .25rem; }
.hit { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; margin: 0 0 1rem; }
.hit h2 { display: flex; gap: .6rem; align-items: baseline; font-size: 1.05rem; margin: 0; }
.hit h2 bdi { flex: 1; overflow-wrap: anywhere; min-width: 0; }
.rank { color: var(--soft); font-weight: 400; }
.score { font-variant-numeric: tabular-nums; }
.share { height: 3px; background: var(--line); border-radius: 2px; margin: .5rem 0; }
.share i { display: block; height: 100%; background: var(--accent); border-radius: 2px; }
.facts { color: var(--soft); font-size: .85rem; margin: 0 0 .6rem; }
.tokens { display: flex; flex-wrap: wrap; gap: .25rem; margin: 0 0 .75rem; }
.token { border: 1px solid var(--line); border-radius: .3rem; padding: 0 .4rem; font-size: .9rem; color: var(--soft);
  overflow-wrap: anywhere; }
.token.special { border-style: dashed; }
.found { color: inherit; font-weight: 600; background: rgb(var(--mark) / var(--most)); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; max-height: 24rem; overflow-y: auto; margin: 0; }
mark { color: inherit; border-radius: .2rem; padding: .05em .1em; font-weight: 600;
  background: rgb(var(--mark) / calc((.25 + .75 * var(--w)) * var(--most))); }
.unread { opacity: .5; }
details { margin-top: .75rem; }
summary { cursor: pointer; color: var(--soft); font-size: .85rem; }
.rows { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; margin-top: .5rem; }
th, td { text-align: start; padding: .15rem .5rem .15rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
.number { text-align: end; font-variant-numeric: tabular-nums; }
.bar { width: 22%; min-width: 3rem; }
.bar i { display: block; height: .6rem; background: var(--accent); border-radius: 2px; }
.special .bar i { background: var(--soft); }
$links
</style>
</head>
<body>
<main>
<h1 dir="auto"><small dir="ltr">Which words were found, and where</small>$title</h1>
$hits
</main>
</body>
</html>
""")

_HIT = Template("""<article class="hit">
<h2><span class="rank">$rank</span><bdi>$id</bdi><span class="score">$score</span></h2>
<div class="share"><i style="width:$share%"></i></div>
<p class="facts">$facts</p>
<div class="tokens" aria-label="The query's tokens">$tokens</div>
<p class="text" dir="auto">$text</p>
<details><summary>Every query token</summary><div class="rows"><table>
<thead><tr><th>query token</th><th>found</th><th class="number">similarity</th><th class="number">brings</th><th></th>\
</tr></thead>
<tbody>$rows</tbody>
</table></div></details>
</article>""")
