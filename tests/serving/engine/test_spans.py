"""The words that stand out: whole ones, in any script, and few."""

from __future__ import annotations

from itertools import pairwise

import regex
from hypothesis import given
from hypothesis import strategies as st

from tridex.serving.engine.spans import Excess, spans

TEXT = st.text(
    st.sampled_from("abé \n.'\u0301\u0323日本カש\u05b8لم\u064bहिก็👍🏽👨👩\u200d🇩🇪1\u202e\u00ad<&"),
    min_size=1,
    max_size=40,
)


@given(text=TEXT, data=st.data())
def test_spans_are_whole_words_that_hold_what_was_found(text: str, data: st.DataObject) -> None:
    places = st.tuples(st.integers(0, len(text) - 1), st.integers(1, 6)).map(lambda p: (p[0], min(sum(p), len(text))))
    found = [Excess(i, *data.draw(places), data.draw(st.floats(-1, 1))) for i in range(data.draw(st.integers(0, 5)))]
    made = spans(text, found)
    graphemes = {0, len(text), *(match.end() for match in regex.finditer(r"\X", text))}
    for span in made:
        assert span.text == text[span.start : span.end] and {span.start, span.end} <= graphemes
        assert all(span.start <= found[i].start and found[i].end <= span.end for i in span.found_by)
        assert abs(span.score - sum(found[i].excess for i in span.found_by)) < 1e-9
    assert all(one.end <= other.start for one, other in pairwise(made))
    best = max((one.excess for one in found), default=0)
    expected = [one.query_token for one in found if one.excess >= 0.6 * best > 0]
    assert sorted(i for span in made for i in span.found_by) == expected


def test_words_as_unicode_divides_them() -> None:
    text = "Don't été-e\u0301te\u0301 日本語 foo_bar"
    found = [(0, 1), (7, 8), (12, 13), (16, 17), (22, 23)]
    assert [span.text for span in spans(text, [Excess(i, *place, 1.0) for i, place in enumerate(found)])] == [
        "Don't",
        "été",
        "e\u0301te\u0301",
        "日",
        "foo_bar",
    ]
