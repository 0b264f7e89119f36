"""Checks what is in this folder as far as that goes without a container runtime, a cluster and a Grafana.

    make lint-deploy

Dockerfiles by hadolint, compose by the Compose Specification's schema, the chart by Helm and its objects by Kubernetes'
schemas, Prometheus' files, the alerts' tests and the dashboards' queries by promtool, the Python files by mypy.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE / "helm" / "tridex"
OBSERVABILITY = HERE / "observability"
BIN = Path(sys.executable).parent
PROMTOOL = BIN / "promtool"
MYPY = (BIN / "mypy", "--config-file=", "--strict", "--ignore-missing-imports", "--allow-subclassing-any")

OF_THE_OPERATOR = {"PrometheusRule", "ServiceMonitor"}
"""Objects that Kubernetes itself has no schema of."""
EVERYTHING: dict[str, Any] = {
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


def main() -> None:
    """Ends with status 1 at the first thing that is wrong."""
    for dockerfile in ("Dockerfile", "Dockerfile.gpu"):
        run(BIN / "hadolint", HERE / dockerfile)
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", HERE / "compose.yaml")
    check_chart()
    check_prometheus()
    for file in ("modal_app.py", "cog/predict.py", "healthcheck.py", "observability/dashboards.py", "check.py"):
        # cog brings no types of its classes, and Tridex is not installed here.
        run(*MYPY, HERE / file)
    print("deploy/: no faults found")


def run(*command: object) -> None:
    """Runs a tool; its findings are its own to print."""
    print("$", *(Path(str(command[0])).name, *command[1:]), flush=True)
    if status := subprocess.run(list(map(str, command)), check=False).returncode:
        sys.exit(status)


def check_chart() -> None:
    """Lints the chart, and validates what it renders to."""
    found = [message for message in helm_python.lint(str(CHART))["messages"] if message["severity"] > 1]
    if found:
        sys.exit(f"helm lint: {found}")
    for name, values in VALUES.items():
        objects = list(rendered(values))
        for rendered_object in objects:
            if rendered_object["kind"] not in OF_THE_OPERATOR:
                kubernetes_validate.validate(rendered_object, "1.34", strict=True)
        print(f"helm template, {name}: {len(objects)} objects are valid")
    try:
        list(rendered({"replicas": 2}))
    except helm_python.HelmError as error:
        assert "persistence.shared" in str(error), error
    else:
        sys.exit("helm template: several replicas with a volume each are not refused")


def rendered(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects of the chart with these values."""
    with helm_python.Chart.load(str(CHART)) as chart:
        for text in chart.render(values, name="tridex", namespace="retrieval").values():
            yield from filter(None, yaml.safe_load_all(text))


def check_prometheus() -> None:
    """Checks configuration, alerts with their tests, and every query of the dashboards."""
    with tempfile.TemporaryDirectory() as folder:
        # Beside each other, as in the container.
        for file in (OBSERVABILITY / "prometheus.yml", CHART / "files" / "alerts.yml"):
            Path(folder, file.name).write_text(file.read_text())
        run(PROMTOOL, "check", "config", Path(folder, "prometheus.yml"))
        queries = [
            target["expr"].replace("$__rate_interval", "5m")
            for file in sorted((CHART / "files" / "dashboards").glob("*.json"))
            for panel in json.loads(file.read_text())["panels"]
            for target in panel["targets"]
        ]
        rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
        Path(folder, "queries.yml").write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
        run(PROMTOOL, "check", "rules", Path(folder, "queries.yml"))
    run(PROMTOOL, "test", "rules", OBSERVABILITY / "alerts_test.yml")


if __name__ == "__main__":
    main()
