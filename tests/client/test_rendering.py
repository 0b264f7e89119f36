"""Explained hits as a page, an image and on a terminal: every text is shown as it is, and none does anything."""

from __future__ import annotations

from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tridex.client import (
    DocumentToken,
    Explanation,
    Hit,
    InvalidArgument,
    QueryToken,
    Span,
    explanations_html,
    explanations_svg,
)
from tridex.client.cli.explained_hits import print_explained
from tridex.client.rendering.pieces import excerpt, pieces

HOSTILE = "<script>alert('x')</script> & \"<b>\" ]]> \x1b[31mred\x1b[0m \x00 end"
QUERY = "<script>alert(1)</script> remove"


def explain(text: str, spans: list[tuple[int, int, float]], read: tuple[int, int] | None = None) -> Explanation:
    token = QueryToken("remove", 26, 32, 0.9, 0.9, DocumentToken("<b>", 0, 1))
    cls = QueryToken("[CLS]", None, None, 0.8, 0.8, DocumentToken("[CLS]", None, None))
    return Explanation(
        1.7,
        (cls, token),
        tuple(
            Span(start, end, score, text[start:end], (1,) if i == 0 else ())
            for i, (start, end, score) in enumerate(spans)
        ),
        special_share=0.47,
        exact=True,
        read=read or (0, len(text)),
    )


def hit(text: str, *spans: tuple[int, int, float], read: tuple[int, int] | None = None) -> Hit:
    return Hit("<i>id</i>", 1.7, text, {}, explain(text, list(spans), read))


class Page(HTMLParser):
    """The tags of a page, and what stands in its texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside |= ("class", "text") in attrs

    def handle_endtag(self, tag: str) -> None:
        self._inside &= tag != "p"

    def handle_data(self, data: str) -> None:
        self.text += data * self._inside


def test_a_page_shows_scripts_and_runs_none() -> None:
    made = explanations_html(QUERY, [hit(HOSTILE, (1, 7, 0.5))])
    page = Page(made)
    assert page.text == HOSTILE.replace("\x1b", "\ufffd").replace("\x00", "\ufffd")
    assert not page.tags & {"script", "img", "iframe", "link", "object", "b", "i class"}
    assert not {name for name in page.attributes if name.startswith("on")} | (page.attributes & {"src", "href"})
    assert "default-src 'none'" in made and "http" not in made.replace("http-equiv", "")


def test_an_image_is_xml_whatever_the_text_is() -> None:
    made = ElementTree.fromstring(explanations_svg(QUERY, [hit(HOSTILE, (1, 7, 0.5))]))
    assert {element.tag.rpartition("}")[2] for element in made.iter()} == {
        "svg", "title", "style", "rect", "text", "tspan",
    }  # fmt: skip
    shown = " ".join("".join(element.itertext()) for element in made.iter("{http://www.w3.org/2000/svg}text"))
    assert "<script>alert" in shown and "<i>id</i>" in shown


TEXTS = st.text(st.sampled_from("ab<>&\"' \n\t\x1b\x00é\u0301日本ש👍\u200d\u202e"), min_size=1, max_size=120)


@given(text=TEXTS, data=st.data())
def test_pieces_are_the_text(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = [(start, end, 0.5) for start, end in zip(cuts[::2], cuts[1::2], strict=False)]
    first = min(spans[0][0], data.draw(st.integers(0, len(text)))) if spans else 0
    last = max(spans[-1][1], data.draw(st.integers(0, len(text)))) if spans else len(text)
    explanation = explain(text, spans, (first, last))
    drawn = pieces(text, explanation)
    assert "".join(piece.text for piece in drawn) == text
    assert [piece.text for piece in drawn if piece.weight > 0] == [text[start:end] for start, end, _ in spans]
    assert sum(len(piece.text) for piece in drawn if not piece.is_read) == first + len(text) - last
    line = "".join(piece.text for piece in excerpt(text, explanation, 30))
    assert len(line) <= 34 and "\n" not in line and "\x1b" not in line and "  " not in line
    assert Page(explanations_html("q", [hit(text, *spans, read=(first, last))])).text.count("<") == text.count("<")
    ElementTree.fromstring(explanations_svg("q", [hit(text, *spans, read=(first, last))]))


def test_an_excerpt_is_around_the_words_that_stand_out() -> None:
    text = "nothing " * 100 + "needle in a haystack " + "nothing " * 100
    line = "".join(piece.text for piece in excerpt(text, explain(text, [(800, 806, 0.5), (812, 820, 0.4)]), 80))
    assert line.startswith("… nothing") and line.endswith(" …") and "needle in a haystack" in line


def test_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = f"{HOSTILE} {'日本 word ' * 60}"
    print_explained(QUERY, [hit(text, (1, 7, 0.5), (len(HOSTILE) + 4, len(HOSTILE) + 8, 0.2))])
    shown = capsys.readouterr().out
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    assert "\x1b" not in shown and "\x00" not in shown
    assert "<[script]>" in shown and "[word]" in shown and "47% by special tokens" in shown
    assert "remove → script 0.90" in shown


def test_hits_without_texts_are_refused_and_without_explanation_left_out() -> None:
    bare = Hit("1", 1.0, "text", {})
    assert "No hit is explained" in explanations_html("q", [bare])
    explained = hit("abc")
    with pytest.raises(InvalidArgument, match="got '<i>id</i>' without"):
        explanations_svg("q", [Hit(explained.id, 1.0, None, {}, explained.explanation)])
