"""`make observe` asks what Grafana would ask, and says where there is no data."""

from __future__ import annotations

import io

from rich.console import Console

from benchmarks.observe import VARIABLES, Query, queries, table


def test_every_variable_of_the_dashboards_has_a_value() -> None:
    filled = [query.expression for query in queries()]
    assert len(filled) > 30
    for variable, value in VARIABLES.items():
        assert any(variable in expression for expression in filled), "it is of use"
        filled = [expression.replace(variable, value) for expression in filled]
    assert not any("$" in expression for expression in filled)


def test_a_query_without_data_is_named_within_80_columns() -> None:
    found = [(query, [1.5, 2.5] if query.panel != "Ready" else []) for query in queries()]
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(table(found))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert next(line for line in printed.splitlines() if "no data" in line).startswith("Ready")
    assert printed.count("no data") == 1 and printed.count("1.5 to 2.5") == len(found) - 1


def test_one_value_is_no_span() -> None:
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(table([(Query("overview", "Ready", "{{instance}}", "tridex_ready"), [1.0, 1.0])]))
    assert console.file.getvalue().splitlines()[-1].split()[-1] == "1"  # type: ignore[attr-defined]
