"""What deploy/ says about the server is what the server says; `make lint-deploy` has the tools for the rest."""

from __future__ import annotations

import importlib.util
import json
import re
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import tomllib
import yaml
from certificates import Authority, Pair

from tridex.serving.metrics.table import METRICS, Kind
from tridex.serving.settings import ServerSettings, variable

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "tridex"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc")
DEFAULTS: Any = ServerSettings()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ALERTS = yaml.safe_load((CHART / "files" / "alerts.yml").read_text())["groups"][0]["rules"]


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Authority(tmp_path_factory.mktemp("certificates"), "authority").issue("server")


def test_dashboards_are_those_that_their_source_writes() -> None:
    spec = importlib.util.spec_from_file_location("dashboards", DEPLOY / "observability" / "dashboards.py")
    assert spec is not None and spec.loader is not None
    dashboards = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(dashboards)
    written = {path.stem: path.read_text() for path in dashboards.FOLDER.glob("*.json")}
    assert written == {name: dashboards.rendered(name) for name in dashboards.DASHBOARDS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_metrics_and_settings_that_a_file_names_exist(path: Path) -> None:
    series = {
        metric.name + suffix
        for metric in METRICS
        for suffix in ("", *(("_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ()))
    }
    content = path.read_text()
    assert {*re.findall(r"\btridex_[a-z_]+", content)} <= series
    assert {*re.findall(r"\bTRIDEX_[A-Z_]+\b(?!\{)", content)} - {"TRIDEX_"} <= {
        variable(name) for name in ServerSettings.model_fields
    }


def test_labels_that_queries_select_and_group_by_exist() -> None:
    known = {label for metric in METRICS for label in metric.labels} | {"instance", "job", "le"}
    dashboards = [json.loads(path.read_text()) for path in (CHART / "files" / "dashboards").glob("*.json")]
    queries = [target["expr"] for board in dashboards for panel in board["panels"] for target in panel["targets"]]
    queries += [rule["expr"] for rule in ALERTS]
    grouped = {
        label.strip() for query in queries for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(",")
    }
    selected = {label for query in queries for label in re.findall(r"([a-z_]+)(?:=|!=|=~)\"", query)}
    assert grouped | selected <= known


def test_every_alert_has_its_runbook() -> None:
    index = (ROOT / "docs" / "runbooks" / "index.md").read_text()
    for rule in ALERTS:
        page = ROOT / rule["annotations"]["runbook"]
        assert f"**{rule['alert']}" in (heading := page.read_text()) or f", {rule['alert']}" in heading
        assert re.search(rf"\| [^|]*{rule['alert']}[^|]*\| \[[^]]*\]\({page.name}\)", index)


def test_ports_are_the_settings_defaults() -> None:
    http, grpc, metrics = DEFAULTS.http_port, DEFAULTS.grpc_port, DEFAULTS.metrics_port
    for name in ("Dockerfile", "Dockerfile.gpu"):
        assert f"EXPOSE {http} {grpc} {metrics}\n" in text(name)
    assert f'"TRIDEX_HTTP_PORT", "{http}"' in text("healthcheck.py")
    assert f"tridex:{metrics}" in text("observability/prometheus.yml")
    assert f"127.0.0.1:{grpc}:{grpc}" in text("compose.yaml") and f"127.0.0.1:{grpc}" in text("modal_app.py")
    stateful_set, services = text("helm/tridex/templates/statefulset.yaml"), text("helm/tridex/templates/services.yaml")
    for name, port in {"health": http, "grpc": grpc, "metrics": metrics}.items():
        assert f"name: {name}, containerPort: {port} " in stateful_set
    assert {*map(int, re.findall(r"port: (\d+)", services))} == {grpc, metrics}


def test_a_start_may_take_as_long_as_the_probes_wait() -> None:
    for name in ("Dockerfile", "Dockerfile.gpu"):
        (own_s,) = re.findall(r"TRIDEX_START_TIMEOUT_S=(\d+)", text(name))
        (health_s,) = re.findall(r"--start-period=(\d+)s", text(name))
        assert DEFAULTS.start_timeout_s < int(own_s) < int(health_s) == 300


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (None, False)])
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_health_check_says_what_the_server_says(
    status: int | None, healthy: bool, tls: bool, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if status and self.path == "/v2/health/ready" else 404)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        monkeypatch.setenv("TRIDEX_HTTP_PORT", str(server.server_port))
        if tls:
            monkeypatch.setenv("TRIDEX_TLS_CERT", str(pair.cert))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.cert, pair.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        if status is None:
            server.server_close()
        else:
            Thread(target=server.handle_request, daemon=True).start()
        done = subprocess.run([sys.executable, DEPLOY / "healthcheck.py"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == healthy
    assert done.stderr.startswith("not ready: ") != healthy
    assert len(done.stderr.splitlines()) == (0 if healthy else 1)


def test_versions_and_extras_are_the_projects() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["appVersion"], chart["version"]) == (PROJECT["version"],) * 2
    assert text("cog/requirements.txt").strip().endswith(f"=={PROJECT['version']}")
    named = [text(name) for name in ("Dockerfile", "Dockerfile.gpu", "cog/requirements.txt")]
    extras = {
        extra for content in named for group in re.findall(r"[.x]\[([a-z,-]+)\]", content) for extra in group.split(",")
    }
    assert {"embedded", "export", "gpu"} <= extras <= PROJECT["optional-dependencies"].keys()


def test_paths_and_user_are_the_images() -> None:
    images = text("Dockerfile") + text("Dockerfile.gpu")
    stateful_set = text("helm/tridex/templates/statefulset.yaml")
    assert {*re.findall(r"TRIDEX_STORE=(\S+)", images)} == {"/data/store"}
    assert "mountPath: /data }" in stateful_set and 'volumes: ["store:/data"]' in text("compose.yaml")
    user = {*re.findall(r"--uid (\d+)|USER (\d+)", images)}
    assert {number for found in user for number in found if number} == {"10001"}
    assert "runAsUser: 10001" in stateful_set
    assert 'securityContext: {{- include "tridex.securityContext" . ' in stateful_set
    assert "readOnlyRootFilesystem: true" in text("helm/tridex/templates/_helpers.tpl")
    # What .dockerignore lets in is what the distribution is made of.
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packages = {package.partition("/")[0] for package in wheel["packages"]}
    others = {"LICENSE", "README.md", "constraints.txt", "deploy/healthcheck.py", "pyproject.toml"}
    assert let_in == packages | others
