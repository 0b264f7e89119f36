"""The chart as it renders, and values that between them turn everything in it on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parent / "helm" / "tridex"

EVERYTHING: dict[str, Any] = {
    "export": {"model": "organisation/checkpoint", "precision": "int8"},
    "settings": {"memory_budget": "16GB", "trace_sample_rate": 0.1},
    "apiKeys": {"existingSecret": "keys"},
    "tls": {"existingSecret": "tls", "clientCa": True},
    "persistence": {"shared": True, "storageClass": "nfs"},
    "gpus": 1,
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "authorization": {"credentials": {"name": "keys", "key": "prometheus"}}},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
}
VALUES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "several replicas": {"replicas": 3, "persistence": {"shared": True}},
}


def rendered(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects of the chart with these values."""
    with helm_python.Chart.load(str(CHART)) as chart:
        for text in chart.render(values, name="tridex", namespace="retrieval").values():
            yield from filter(None, yaml.safe_load_all(text))
