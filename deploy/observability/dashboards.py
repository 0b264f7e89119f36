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


class Panel(NamedTuple):
    """A graph over time.

    Attributes:
        title: What it shows.
        unit: Grafana's name of the unit.
        queries: PromQL by legend, in which HERE selects the chosen servers, and RATE is a span for `rate`.
    """

    title: str
    unit: str
    queries: dict[str, str]


def _quantiles(metric: str, by: str, labels: str = "{HERE}") -> dict[str, str]:
    rates = f"sum by ({by}, le) (rate({metric}_bucket{labels}[RATE]))"
    return {f"{{{{{by}}}}} p{100 * q:g}": f"histogram_quantile({q}, {rates})" for q in (0.5, 0.99)}


def _rate(metric: str, by: str, labels: str = "{HERE}") -> dict[str, str]:
    return {f"{{{{{by}}}}}": f"sum by ({by}) (rate({metric}{labels}[RATE]))"}


DASHBOARDS: dict[str, tuple[str, list[Panel]]] = {
    "overview": (
        "Tridex: overview",
        [
            Panel("Ready", "bool_yes_no", {"{{instance}}": "tridex_ready{HERE}"}),
            Panel("Starts after the first", "short", {"{{instance}}": "tridex_restarts_total{HERE}"}),
            Panel("Requests per second", "reqps", _rate("tridex_requests_total", "operation")),
            Panel("Failed requests per second", "reqps", _rate("tridex_requests_total", "code", '{HERE,code!="OK"}')),
            Panel(
                "Time of a search",
                "s",
                _quantiles("tridex_request_duration_seconds", "operation", '{HERE,operation="search"}'),
            ),
            Panel("Estimated wait", "s", {"{{lane}}": "max by (lane) (tridex_queue_wait_seconds{HERE})"}),
            Panel("Requests in flight", "short", {"{{model}}": "sum by (model) (tridex_requests_in_flight{HERE})"}),
            Panel("Refused as overloaded per second", "reqps", _rate("tridex_shed_requests_total", "lane")),
            Panel(
                "Resident memory",
                "bytes",
                {"{{process}}": "sum by (process) (tridex_process_resident_memory_bytes{HERE})"},
            ),
            Panel(
                "Open file descriptors", "short", {"{{process}}": "sum by (process) (tridex_process_open_fds{HERE})"}
            ),
        ],
    ),
    "latency": (
        "Tridex: latency by stage",
        [
            Panel("Time of a request", "s", _quantiles("tridex_request_duration_seconds", "operation")),
            Panel(
                "Time in a stage, of searches by maxsim",
                "s",
                _quantiles("tridex_stage_duration_seconds", "stage", '{HERE,mode="maxsim"}'),
            ),
            Panel(
                "Mean time of a request by stage",
                "s",
                {
                    "{{stage}}": "sum by (stage) (rate(tridex_stage_duration_seconds_sum{HERE}[RATE]))"
                    " / sum by (stage) (rate(tridex_stage_duration_seconds_count{HERE}[RATE]))"
                },
            ),
            Panel(
                "Requests per batch",
                "short",
                {
                    "{{stage}}": "sum by (stage) (rate(tridex_stage_duration_seconds_count{HERE}[RATE]))"
                    " / sum by (stage) (rate(tridex_stage_batches_total{HERE}[RATE]))"
                },
            ),
            Panel("Requests not answered yet", "short", {"{{lane}}": "sum by (lane) (tridex_queue_requests{HERE})"}),
            Panel("Searches that wait for a version", "short", {"searches": "sum(tridex_pending_searches{HERE})"}),
        ],
    ),
    "collections": (
        "Tridex: collections and memory",
        [
            Panel("Collections", "short", {"{{state}}": "sum by (state) (tridex_collections{HERE})"}),
            Panel(
                "Memory budget",
                "bytes",
                {
                    "budget": "sum(tridex_memory_budget_bytes{HERE})",
                    "used": "sum(tridex_memory_budget_used_bytes{HERE})",
                },
            ),
            Panel("Documents", "short", {"{{collection}}": "max by (collection) (tridex_collection_documents{HERE})"}),
            Panel(
                "Device memory",
                "bytes",
                {"{{collection}}": "max by (collection) (tridex_collection_device_bytes{HERE})"},
            ),
            Panel("Tokens", "short", {"{{collection}}": "max by (collection) (tridex_collection_tokens{HERE})"}),
            Panel(
                "Deleted rows",
                "short",
                {"{{collection}}": "max by (collection) (tridex_collection_deleted_rows{HERE})"},
            ),
            Panel(
                "Versions behind the store",
                "short",
                {"{{collection}}": "max by (collection) (tridex_collection_versions_behind{HERE})"},
            ),
            Panel(
                "Compactions and failures per minute",
                "short",
                {
                    "compactions": "60 * sum(rate(tridex_compactions_total{HERE}[RATE]))",
                    "maintenance that failed": "60 * sum(rate(tridex_maintenance_failures_total{HERE}[RATE]))",
                    "loads that failed": "60 * sum(rate(tridex_load_failures_total{HERE}[RATE]))",
                },
            ),
        ],
    ),
    "recall": (
        "Tridex: recall of approximate searches",
        [
            Panel(
                "Recall over an hour",
                "percentunit",
                {
                    "{{collection}}, top {{k}}": "sum by (collection, k)"
                    " (increase(tridex_recall_hits_found_total{HERE}[1h]))"
                    " / sum by (collection, k) (increase(tridex_recall_hits_expected_total{HERE}[1h]))"
                },
            ),
            Panel(
                "Approximate searches measured per minute, in documents",
                "short",
                {"{{collection}}": "60 * sum by (collection) (rate(tridex_recall_hits_expected_total{HERE}[RATE]))"},
            ),
        ],
    ),
}


def rendered(name: str) -> str:
    """A dashboard as Grafana's JSON."""
    title, panels = DASHBOARDS[name]
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
                {
                    "name": "instance",
                    "label": "Server",
                    "type": "query",
                    "datasource": _SOURCE,
                    "query": {"query": "label_values(tridex_build_info, instance)", "refId": "instance"},
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                },
            ]
        },
        "links": [{"type": "dashboards", "title": "Tridex", "tags": ["tridex"], "asDropdown": False}],
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(dashboard, indent=2) + "\n"


_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": _SOURCE,
                "expr": query.replace("HERE", _HERE).replace("RATE", "$__rate_interval"),
                "legendFormat": legend,
            }
            for i, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    for dashboard_name in DASHBOARDS:
        (FOLDER / f"{dashboard_name}.json").write_text(rendered(dashboard_name))
