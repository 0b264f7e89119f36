"""`tridex tune`: the choice and its reasons."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tridex.client.cli import create_app
from tridex.common import strict_json
from tridex.evaluation.report import DatasetReport, Report, Row
from tridex.evaluation.tuning import Limits, TuningError, propose


def row(system: str, quality: float, budget: float | None, p95: float, codec: str | None = "c", pool: int = 1) -> Row:
    return Row(system, codec, pool, "exact", {"nDCG@10": quality}, {}, p95 / 2, p95, p95, budget, budget)


ROWS = [
    row("bm25", 0.9, None, 1.0, None),
    row("float16", 0.500, 40_000.0, 50.0, "float16"),
    row("int8", 0.499, 20_000.0, 30.0, "int8"),
    row("int8+pool2", 0.480, 10_000.0, 20.0, "int8", 2),
    row("residual2", 0.470, 6_000.0, 25.0, "residual2"),
]
REPORT = Report("checkpoint", "float16", ["nDCG@10"], [DatasetReport("cacm", "test", 3000, 50, ROWS)])


UNMEASURED = Report("c", "c", ["nDCG@10"], [DatasetReport("d", "", 1, 1, [row("c", math.nan, 1, 1)])])


def chosen(documents: int, budget_gb: float, p95_ms: float, tolerance: float = 0.005) -> str:
    return propose(REPORT, Limits(documents, budget_gb * 1e9, p95_ms), tolerance).chosen.row.system


def test_it_takes_the_smallest_of_those_that_are_as_good_as_the_best_that_fits() -> None:
    assert chosen(1_000_000, 100, 100) == "int8", "within the tolerance of float16, at half its size"
    assert chosen(1_000_000, 100, 100, tolerance=0.0) == "float16"
    assert chosen(1_000_000, 20, 100) == "int8", "a budget that is just enough"
    assert chosen(1_000_001, 20, 100) == "int8+pool2"
    assert chosen(1_000_000, 100, 24) == "int8+pool2", "residual2 is smaller and too slow"
    assert chosen(1_000_000, 7, 26) == "residual2"


def test_where_nothing_fits_it_says_what_comes_nearest() -> None:
    with pytest.raises(TuningError, match=r"nothing of 4 systems fits 1,000,000 documents into .* 5\.00 GB") as refused:
        propose(REPORT, Limits(1_000_000, 5e9, 22), 0.005)
    assert "Nearest comes residual2 (6.00 GB, 25.0 ms, 0.4700)" in str(refused.value)
    assert "the fastest is int8+pool2 (10.00 GB, 20.0 ms" in str(refused.value)


def test_the_slowest_collection_counts() -> None:
    slower = [row(one.system, 0.5, one.budget_bytes_per_document, 90.0, one.codec) for one in ROWS]
    both = Report(
        "checkpoint", "float16", ["nDCG@10"], [*REPORT.collections, DatasetReport("big", "test", 9000, 50, slower)]
    )
    with pytest.raises(TuningError, match="p95 of 60 ms"):
        propose(both, Limits(9000, 1e9, 60), 0.005)
    assert propose(both, Limits(9000, 1e9, 90), 0.005).chosen.measured_over == 9000


def test_the_command_says_what_to_do_and_why(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    file.write_text(json.dumps(REPORT.to_dict()))
    options = ["--budget-gb", "15", "--p95-ms", "40", "--documents", "1000000"]
    result = CliRunner().invoke(create_app(), ["tune", str(file), *options])
    assert result.exit_code == 0, result.output
    output = " ".join(result.output.split())
    assert "Take int8+pool2." in output and "--codec int8 --pooling-factor 2" in output
    assert "2 of 4 systems fit" in output and "need a budget of 10.00 GB of the 15.00 GB" in output
    assert "measure 1,000,000 before you rely on it" in output
    told = json.loads(CliRunner().invoke(create_app(), ["tune", str(file), *options, "--json"]).stdout)
    assert (told["codec"], told["pooling_factor"], told["budget_bytes"]) == ("int8", 2, 10e9) and told["why"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "comparison.json: Expecting property name"),
        ("[" * 100_000, "comparison.json: maximum recursion"),
        ("\ud800", "comparison.json: Expecting value"),
        ("{}", "expected what `tridex compare --json` prints"),
        (strict_json.dumps(UNMEASURED.to_dict()), "prints (TypeError('nDCG@10 of c is None'))"),
        (json.dumps(REPORT.to_dict()), "nothing of 4 systems fits"),
        (
            json.dumps(Report("c", "bm25", ["nDCG@10"], [DatasetReport("d", "", 1, 1, ROWS[:1])]).to_dict()),
            "keeps token embed",
        ),
    ],
)
def test_what_it_cannot_do_ends_with_one_line(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "comparison.json"
    file.write_bytes(content.encode(errors="surrogatepass"))
    result = CliRunner().invoke(create_app(), ["tune", str(file), "--budget-gb", "0.001", "--p95-ms", "1"])
    assert result.exit_code == 1 and message in result.output and result.output.count("\n") == 1


@pytest.mark.parametrize("limits", [("0", "1"), ("1", "0"), ("nan", "1")])
def test_limits_of_nothing_are_refused(tmp_path: Path, limits: tuple[str, str]) -> None:
    (tmp_path / "comparison.json").write_text(json.dumps(REPORT.to_dict()))
    options = ["--budget-gb", limits[0], "--p95-ms", limits[1]]
    result = CliRunner().invoke(create_app(), ["tune", str(tmp_path / "comparison.json"), *options])
    assert result.exit_code == 2 and "Traceback" not in result.output
