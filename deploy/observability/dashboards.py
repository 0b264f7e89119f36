"""Writes the Grafana dashboards: python deploy/observability/dashboards.py

A dashboard is a list of panels: a title, a unit of Grafana's, and queries with their legends. The JSON beside the
chart's alerts is what Grafana reads; a test holds it to this file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent.parent / "helm" / "tridex" / "files" / "dashboards"
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2

_HERE = 'instance=~"$instance"'

COUNT, RATE, SECONDS, BYTES, SHARE = "locale", "reqps", "s", "bytes", "percentunit"
"""Grafana's names of units; `locale` is 1,500 where `short` would be 1.50 K."""

_SOFT_MAX = {COUNT: 1, RATE: 1, SECONDS: 0.01}
"""How far an axis goes at least: one with nothing but zeros would go to 100."""


class Panel(NamedTuple):
    """A graph over time.

    Attributes:
        title: What it shows.
        unit: Grafana's name of the unit.
        queries: PromQL by legend, in which HERE selects the chosen servers, and SPAN is a span for `rate`.
        limit: A dashed line; an alert fires beyond it (alerts.yml).
        lowest: Where the axis begins as long as nothing is below it.
        stacked: Whether the lines add up to something.
        logarithmic: Whether lines differ by powers of ten.
    """

    title: str
    unit: str
    queries: dict[str, str]
    limit: float | None = None
    lowest: float = 0
    stacked: bool = False
    logarithmic: bool = False


def _quantile(quantile: float, metric: str, by: str, labels: str = "{HERE}", legend: str = "") -> dict[str, str]:
    rates = f"sum by ({by}, le) (rate({metric}_bucket{labels}[SPAN]))"
    return {legend or f"{{{{{by}}}}}": f"histogram_quantile({quantile}, {rates})"}


def _rate(metric: str, by: str, labels: str = "{HERE}", of: str = "") -> dict[str, str]:
    return {f"{{{{{by}}}}}{of}": f"sum by ({by}) (rate({metric}{labels}[SPAN]))"}


def _per_minute(metric: str) -> str:
    return f"60 * sum(rate({metric}{{HERE}}[SPAN]))"


def _ratio(over: str, under: str, labels: str) -> str:
    return " / ".join(f"sum by (stage) (rate({metric}{labels}[SPAN]))" for metric in (over, under))


_OF_MODE = '{HERE,mode="$mode"}'
_REQUEST, _STAGE = "tridex_request_duration_seconds", "tridex_stage_duration_seconds"
_SEARCHES = (_REQUEST, "operation", '{HERE,operation="search"}')

DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "overview": (
        "Tridex: overview",
        [
            Panel("Ready", "bool_yes_no", {"{{instance}}": "tridex_ready{HERE}"}),
            Panel("Restarts since the start", COUNT, {"{{instance}}": "tridex_restarts_total{HERE}"}),
            Panel("Requests per second", RATE, _rate("tridex_requests_total", "operation")),
            Panel(
                "Failed requests per second",
                RATE,
                _rate("tridex_requests_total", "code", '{HERE,code!~"OK|OVERLOADED"}'),
            ),
            Panel(
                "Time of a search",
                SECONDS,
                {
                    **_quantile(0.5, *_SEARCHES, legend="median"),
                    **_quantile(0.99, *_SEARCHES, legend="99th percentile"),
                },
                limit=1,
            ),
            Panel(
                "Refused as overloaded per second",
                RATE,
                {
                    **_rate("tridex_shed_requests_total", "lane", of=", at the door"),
                    **_rate("tridex_requests_total", "operation", '{HERE,code="OVERLOADED"}', of=", by its model"),
                },
                limit=0.1,
            ),
            Panel("Requests in flight", COUNT, {"{{model}}": "sum by (model) (tridex_requests_in_flight{HERE})"}),
            Panel("Estimated wait", SECONDS, {"{{lane}}": "max by (lane) (tridex_queue_wait_seconds{HERE})"}),
            Panel(
                "Resident memory",
                BYTES,
                {"{{process}}": "sum by (process) (tridex_process_resident_memory_bytes{HERE})"},
            ),
            Panel("Open file descriptors", COUNT, {"{{process}}": "sum by (process) (tridex_process_open_fds{HERE})"}),
        ],
    ),
    "latency": (
        "Tridex: latency by stage",
        [
            Panel(
                "Time of a request, median",
                SECONDS,
                _quantile(0.5, _REQUEST, "operation"),
                logarithmic=True,
            ),
            Panel(
                "Time of a request, 99th percentile",
                SECONDS,
                _quantile(0.99, _REQUEST, "operation"),
                logarithmic=True,
            ),
            Panel("Time in a stage, median, of $mode", SECONDS, _quantile(0.5, _STAGE, "stage", _OF_MODE)),
            Panel("Time in a stage, 99th percentile, of $mode", SECONDS, _quantile(0.99, _STAGE, "stage", _OF_MODE)),
            Panel(
                "Mean time by stage, of $mode",
                SECONDS,
                {"{{stage}}": _ratio(f"{_STAGE}_sum", f"{_STAGE}_count", _OF_MODE)},
                stacked=True,
            ),
            Panel(
                "Requests per batch, of $mode",
                COUNT,
                {"{{stage}}": _ratio(f"{_STAGE}_count", "tridex_stage_batches_total", _OF_MODE)},
            ),
            Panel("Requests not answered yet", COUNT, {"{{lane}}": "sum by (lane) (tridex_queue_requests{HERE})"}),
            Panel("Searches that wait for a version", COUNT, {"searches": "sum(tridex_pending_searches{HERE})"}),
        ],
    ),
    "collections": (
        "Tridex: collections and memory",
        [
            Panel("Collections", COUNT, {"{{state}}": "sum by (state) (tridex_collections{HERE})"}),
            Panel(
                "Memory budget used",
                SHARE,
                {"{{instance}}": "tridex_memory_budget_used_bytes{HERE} / tridex_memory_budget_bytes{HERE}"},
                limit=0.8,
            ),
            Panel("Documents", COUNT, {"{{collection}}": "max by (collection) (tridex_collection_documents{HERE})"}),
            Panel(
                "Device memory",
                BYTES,
                {"{{collection}}": "max by (collection) (tridex_collection_device_bytes{HERE})"},
            ),
            Panel("Tokens", COUNT, {"{{collection}}": "max by (collection) (tridex_collection_tokens{HERE})"}),
            Panel(
                "Deleted rows", COUNT, {"{{collection}}": "max by (collection) (tridex_collection_deleted_rows{HERE})"}
            ),
            Panel(
                "Versions behind the store",
                COUNT,
                {"{{collection}}": "max by (collection) (tridex_collection_versions_behind{HERE})"},
                limit=100,
            ),
            Panel("Compactions per minute", COUNT, {"compactions": _per_minute("tridex_compactions_total")}),
            Panel(
                "Failures per minute",
                COUNT,
                {
                    "maintenance": _per_minute("tridex_maintenance_failures_total"),
                    "loads": _per_minute("tridex_load_failures_total"),
                },
            ),
        ],
    ),
    "recall": (
        "Tridex: recall of approximate searches",
        [
            Panel(
                "Recall over an hour",
                SHARE,
                {
                    "{{collection}}, top {{k}}": "sum by (collection, k)"
                    " (increase(tridex_recall_hits_found_total{HERE}[1h]))"
                    " / sum by (collection, k) (increase(tridex_recall_hits_expected_total{HERE}[1h]))"
                },
                limit=0.95,
                lowest=0.9,
            ),
            Panel(
                "Hits that recall is measured by, per minute",
                COUNT,
                {"{{collection}}": "60 * sum by (collection) (rate(tridex_recall_hits_expected_total{HERE}[SPAN]))"},
            ),
        ],
    ),
}


def rendered(name: str) -> str:
    """A dashboard as Grafana's JSON."""
    title, panels = DASHBOARDS[name]
    variables = [_variable("instance", "Server", "tridex_build_info", multi=True, includeAll=True)]
    if any("$mode" in query for panel in panels for query in panel.queries.values()):
        chosen = {"text": "maxsim", "value": "maxsim"}
        variables.append(_variable("mode", "Mode or operation", f"{_STAGE}_count", current=chosen))
    dashboard = {
        "uid": f"tridex-{name}",
        "title": title,
        "tags": ["tridex"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                *variables,
            ]
        },
        # From one dashboard to another, the chosen servers and times stay.
        "links": [
            {
                "type": "dashboards",
                "title": "Tridex",
                "tags": ["tridex"],
                "icon": "dashboard",
                "tooltip": "",
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
            }
        ],
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(dashboard, indent=2) + "\n"


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _variable(label: str, title: str, metric: str, **more: Any) -> dict[str, Any]:
    return {
        "name": label,
        "label": title,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({metric}, {label})", "refId": label},
        "refresh": 2,
        **more,
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": {
            "legend": {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "expr": query.replace("HERE", _HERE).replace("SPAN", "$__rate_interval"),
                "legendFormat": legend,
            }
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _field(panel: Panel) -> dict[str, Any]:
    """How the lines are drawn."""
    field: dict[str, Any] = {"unit": panel.unit}
    drawn: dict[str, Any] = {}
    if panel.logarithmic:
        drawn["scaleDistribution"] = {"type": "log", "log": 10}
    elif panel.lowest:
        drawn["axisSoftMin"] = panel.lowest
    else:
        field["min"] = 0
        if panel.unit in _SOFT_MAX:
            drawn["axisSoftMax"] = _SOFT_MAX[panel.unit]
    if panel.unit == SHARE:
        field["max"] = 1
    if panel.stacked:
        drawn.update({"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 30})
    if panel.limit is not None:
        field["thresholds"] = {
            "mode": "absolute",
            "steps": [{"color": "green", "value": None}, {"color": "red", "value": panel.limit}],
        }
        drawn["thresholdsStyle"] = {"mode": "dashed"}
    return {**field, "custom": drawn} if drawn else field


if __name__ == "__main__":
    for dashboard_name in DASHBOARDS:
        (FOLDER / f"{dashboard_name}.json").write_text(rendered(dashboard_name))
