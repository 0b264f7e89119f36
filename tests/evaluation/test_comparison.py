"""Comparing systems: their names, the tests of significance, the report, the page. With the real server:
tests/end_to_end/test_compare.py."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tridex.client import CollectionInfo
from tridex.evaluation.page import write_page
from tridex.evaluation.report import DatasetReport, Report, ReportError, Row
from tridex.evaluation.significance import holm, paired_p_value
from tridex.evaluation.stores import CollectionError, check_fits
from tridex.evaluation.systems import DEFAULT_SYSTEMS, System, UnknownSystemError, choose_baseline, parse_systems
from tridex.evaluation.table import sign
from tridex.kernels import Codec

VALUES = st.lists(st.integers(-4, 4), min_size=2, max_size=7)


def row(system: str, quality: float, **given: object) -> Row:
    fields = {
        "codec": "float16", "pooling_factor": 1, "strategy": "exact", "p_values": {}, "p50_ms": 10.0, "p95_ms": 20.0,
        "p99_ms": 30.0, "bytes_per_document": 1000.0, "budget_bytes_per_document": 1300.0,
    }  # fmt: skip
    return Row(system, measures={"nDCG@10": quality, "R@100": 0.9}, **{**fields, **given})  # type: ignore[arg-type]


def report(*collections: list[Row], baseline: str = "float16") -> Report:
    reports = [DatasetReport(f"c{i}", "test", 100 * (i + 1), 10, rows) for i, rows in enumerate(collections)]
    return Report("checkpoint", baseline, ["nDCG@10", "R@100"], reports)


def test_systems_are_named_by_what_they_are_made_of() -> None:
    parsed = parse_systems(["bm25", "int8+pool2+hybrid", "residual4+candidates"])
    assert parsed == [
        System("bm25", "float32", strategy="bm25"),
        System("int8+pool2+hybrid", "int8", 2, "hybrid"),
        System("residual4+candidates", "residual4", 1, "candidates"),
    ]
    assert [system.collection("cacm") for system in parsed] == ["cacm-float32", "cacm-int8-pool2", "cacm-residual4"]
    assert {"bm25", "bi-encoder", *(codec.value for codec in Codec)} < set(DEFAULT_SYSTEMS)
    assert [system.name for system in parse_systems(DEFAULT_SYSTEMS)] == list(DEFAULT_SYSTEMS)


@pytest.mark.parametrize(
    "name", ["", "int4", "int8+pool1", "int8+pool65", "int8+pool2+pool3", "int8+hybrid+rerank", "bm25+pool2", "int8+"]
)
def test_unknown_systems_are_named(name: str) -> None:
    with pytest.raises(UnknownSystemError, match=r"system '.*' is not known; expected bm25, bi-encoder, or a codec"):
        parse_systems([name])


def test_a_system_is_named_once() -> None:
    with pytest.raises(UnknownSystemError, match="'int8' is named twice"):
        parse_systems(["int8", "bm25", "int8"])


def test_the_baseline_is_one_of_the_systems() -> None:
    systems = parse_systems(["bm25", "int8", "float16"])
    assert choose_baseline(systems, None) == "float16" and choose_baseline(systems[:2], None) == "int8"
    assert choose_baseline(systems, "bm25") == choose_baseline(systems[:1], None) == "bm25"
    with pytest.raises(UnknownSystemError, match="--baseline is 'int4'; expected one of the systems: bm25, int8, fl"):
        choose_baseline(systems, "int4")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ({"dim": 96}, "holds 96 dimensions per token of checkpoint aaaa, the served encoder model is aaaa with 128"),
        ({"fingerprint": "bbbb"}, "of checkpoint bbbb, the served encoder model is aaaa"),
        ({"codec": "int8"}, "is in int8 with pooling factor 1; expected float16 and 1: drop it, or compare in another"),
        ({"pooling_factor": 2}, "is in float16 with pooling factor 2; expected float16 and 1"),
        ({"count": 4}, "holds 4 documents, the corpus 5"),
    ],
)
def test_a_collection_that_does_not_fit_is_refused(there: dict[str, Any], message: str) -> None:
    fitting = CollectionInfo("c-float16", 5, 1, "float16", 128, "aaaa")
    served = {"dim": 128, "fingerprint": "aaaa", "source": "model"}
    check_fits(fitting, System("float16", "float16"), 5, served)
    with pytest.raises(CollectionError, match=message):
        check_fits(replace(fitting, **there), System("float16", "float16"), 5, served)


@settings(max_examples=30, deadline=None)
@given(VALUES)
def test_the_p_value_is_the_share_of_all_assignments(differences: list[int]) -> None:
    """Enumerates every assignment of values to the two systems, which are few for few queries."""
    values = np.array(differences, float)
    means = [abs((values * signs).mean()) for signs in itertools.product((1, -1), repeat=len(values))]
    expected = np.mean([mean >= abs(values.mean()) - 1e-12 for mean in means])
    assert paired_p_value(values.tolist(), [0.0] * len(values)) == pytest.approx(expected)


def test_equal_systems_do_not_differ_and_different_ones_do() -> None:
    values = np.random.default_rng(0).random(200)
    assert paired_p_value(values.tolist(), values.tolist()) == 1
    assert paired_p_value((values + 0.1).tolist(), values.tolist()) < 0.001


def test_holm_is_r_s() -> None:
    """p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.9), "holm") of R 4."""
    corrected = holm({"a": 0.01, "b": 0.02, "c": 0.03, "d": 0.04, "e": 0.9})
    assert corrected == pytest.approx({"a": 0.05, "b": 0.08, "c": 0.09, "d": 0.09, "e": 0.9})


def test_a_report_survives_json_and_averages_its_collections() -> None:
    bm25 = row("bm25", 0.2, codec=None, strategy="bm25", bytes_per_document=None, budget_bytes_per_document=None)
    given = report([row("float16", 0.4), bm25], [row("float16", 0.6, p50_ms=20.0), bm25])
    told = json.loads(json.dumps(given.to_dict()))
    assert Report.from_dict(told) == given
    first, second = given.average
    assert first.measures["nDCG@10"] == pytest.approx(0.5) and first.p50_ms == 15
    assert second.bytes_per_document is None and told["average"][0]["measures"]["nDCG@10"] == pytest.approx(0.5)
    unmeasured = {**told, "collections": [{**told["collections"][0], "rows": [told["average"][0] | {"p95_ms": None}]}]}
    nothing = ({**told, "collections": []}, {**told, "measures": []}, {**told, "collections": [{"rows": [5]}]})
    for broken in ([], {}, {**told, "collections": [{}]}, {"collections": 5}, unmeasured, *nothing):
        with pytest.raises(ReportError, match="expected what `tridex compare --json` prints"):
            Report.from_dict(broken)


def test_only_what_is_more_than_chance_is_marked() -> None:
    rows = [
        row("float16", 0.5),
        row("better", 0.6, p_values={"nDCG@10": 0.01}),
        row("worse", 0.4, p_values={"nDCG@10": 0.049}),
        row("perhaps", 0.4, p_values={"nDCG@10": 0.05}),
    ]
    assert [sign(one, "nDCG@10", rows, "float16") for one in rows] == ["", "+", "-", ""]


class _Page(HTMLParser):
    """What a browser would fetch for the page, and its cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.cells: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href") and value]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["td"] and data.strip():
            self.cells.append(data.strip())


def test_the_page_asks_for_nothing_else_and_escapes_names(tmp_path: Path) -> None:
    rows = [row("float16", 0.4), row("<script>alert(1)</script>", 0.3, strategy="candidates")]
    bm25 = row("bm25", 0.2, codec=None, strategy="bm25", bytes_per_document=None, budget_bytes_per_document=None)
    write_page(tmp_path / "page.html", report([*rows, bm25], [*rows, bm25]))
    html = (tmp_path / "page.html").read_text()
    page = _Page(html)
    assert "script" not in page.tags and "link" not in page.tags and page.tags.count("svg") == 2
    assert page.tags.count("table") == 3, "the average and two collections"
    assert all(target.startswith("#") for target in page.fetched), page.fetched
    assert "url(http" not in html and "@import" not in html
    assert "<script>alert(1)</script>" in page.cells and "0.4000" in page.cells
