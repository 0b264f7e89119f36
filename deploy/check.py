"""Checks what is in this folder as far as that goes without a container runtime, a cluster and a Grafana.

    make lint-deploy

Dockerfiles by hadolint, compose by the Compose Specification's schema, the chart by Helm, its objects by Kubernetes'
schemas and the Prometheus operator's types, what it promises by test_chart.py, Prometheus' files, the alerts' tests and
the dashboards' queries by promtool, the Python files by mypy.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import helm_python
import kubernetes_validate
from chart import CHART, VALUES, rendered
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor
from pydantic import BaseModel

HERE = Path(__file__).parent
OBSERVABILITY = HERE / "observability"
BIN = Path(sys.executable).parent
PROMTOOL = BIN / "promtool"
MYPY = (BIN / "mypy", "--config-file=", "--strict", "--ignore-missing-imports", "--allow-subclassing-any")
# Without what packages beside it bring, and the settings of Tridex' own tests.
PYTEST = (BIN / "pytest", "--disable-plugin-autoload", "-c", "/dev/null", "--rootdir", HERE, "-p", "no:cacheprovider")

OF_THE_OPERATOR: dict[str, type[BaseModel]] = {"PrometheusRule": PrometheusRule, "ServiceMonitor": ServiceMonitor}
"""The Prometheus operator's objects, of which Kubernetes itself has no schema."""


def main() -> None:
    """Ends with status 1 at the first thing that is wrong."""
    for dockerfile in ("Dockerfile", "Dockerfile.gpu"):
        run(BIN / "hadolint", HERE / dockerfile)
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", HERE / "compose.yaml")
    check_chart()
    check_prometheus()
    runner = HERE / "cog" / "run.py"
    run(*MYPY, *sorted({*HERE.rglob("*.py")} - {runner}))
    # By itself: beside the others, the package cog, which brings no types, would be taken for its folder.
    run(*MYPY, "--allow-untyped-decorators", runner)
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
            if model := OF_THE_OPERATOR.get(rendered_object["kind"]):
                # What its types do not know they leave out.
                known = model.model_validate(rendered_object).model_dump(by_alias=True, exclude_unset=True, mode="json")
                if known != rendered_object:
                    sys.exit(f"{rendered_object} has what the operator does not know: it knows {known}")
            else:
                kubernetes_validate.validate(rendered_object, "1.34", strict=True)
        print(f"helm template, {name}: {len(objects)} objects are valid")
    run(*PYTEST, "--quiet", HERE / "test_chart.py")


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
