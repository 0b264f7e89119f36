"""What the chart promises (docs/guides/deployment.md), in what it renders to. Run by check.py, which has Helm."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest
from chart import EVERYTHING, VALUES, rendered

Objects = dict[tuple[str, str], dict[str, Any]]
"""By kind and name."""


def objects(values: dict[str, Any]) -> Objects:
    return {(found["kind"], found["metadata"]["name"]): found for found in rendered(values)}


@pytest.fixture(scope="module", params=VALUES)
def chart(request: pytest.FixtureRequest) -> Objects:
    return objects(VALUES[request.param])


@pytest.fixture(scope="module")
def everything() -> Objects:
    return objects(EVERYTHING)


def pod(chart: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = chart["StatefulSet", "tridex"]["spec"]["template"]["spec"]
    return spec


def server(chart: Objects) -> dict[str, Any]:
    (container,) = pod(chart)["containers"]
    return dict(container)


def environment(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"] if "value" in variable}


def allowed_s(probe: dict[str, Any]) -> int:
    seconds: int = probe["periodSeconds"] * probe["failureThreshold"]
    return seconds


def test_probes(chart: Objects) -> None:
    container = server(chart)
    start, ready, live = (container[f"{name}Probe"] for name in ("startup", "readiness", "liveness"))
    assert allowed_s(start) == 300
    assert allowed_s(ready) <= 2
    # A restart by the launcher is not to be cut short.
    assert allowed_s(live) >= 60
    paths = [probe["httpGet"]["path"] for probe in (start, ready, live)]
    assert paths == ["/v2/health/ready", "/v2/health/ready", "/v2/health/live"]
    assert {probe["httpGet"]["port"] for probe in (start, ready, live)} == {"health"}


def test_probes_speak_tls_where_the_server_does(everything: Objects) -> None:
    probes = [server(everything)[f"{name}Probe"] for name in ("startup", "readiness", "liveness")]
    assert {probe["httpGet"]["scheme"] for probe in probes} == {"HTTPS"}
    (endpoint,) = everything["ServiceMonitor", "tridex"]["spec"]["endpoints"]
    assert endpoint["scheme"] == "https"


def test_nothing_runs_with_privileges(chart: Objects) -> None:
    spec = pod(chart)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["fsGroup"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*spec["containers"], *spec.get("initContainers", [])):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_what_is_written_has_a_volume(chart: Objects) -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in server(chart)["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(chart)["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert volumes[mounts["/tmp"]]["emptyDir"] == {}
    assert mounts["/data"] == "store"


def test_one_replica_has_a_volume_of_its_own() -> None:
    spec = objects({})["StatefulSet", "tridex"]["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert spec["replicas"] == 1
    assert claim["metadata"]["name"] == "store"
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_several_replicas_share_one_volume_and_write_by_pod_0() -> None:
    chart = objects(VALUES["several replicas"])
    spec = chart["StatefulSet", "tridex"]["spec"]
    assert (spec["replicas"], spec["podManagementPolicy"]) == (3, "OrderedReady")
    assert "volumeClaimTemplates" not in spec
    volumes = {volume["name"]: volume for volume in pod(chart)["volumes"]}
    assert volumes["store"]["persistentVolumeClaim"] == {"claimName": "tridex"}
    claim = chart["PersistentVolumeClaim", "tridex"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert environment(server(chart))["TRIDEX_LOG"] == "/data/$(POD_NAME).log"


def test_searches_go_to_all_pods_and_writes_to_pod_0(chart: Objects) -> None:
    labels = chart["StatefulSet", "tridex"]["spec"]["template"]["metadata"]["labels"]
    searches, writes = (chart["Service", name]["spec"]["selector"] for name in ("tridex", "tridex-write"))
    assert searches.items() <= labels.items()
    assert writes == {**searches, "statefulset.kubernetes.io/pod-name": "tridex-0"}


@pytest.mark.parametrize("values", [{"replicas": 2}, {"autoscaling": {"enabled": True}}], ids=str)
def test_several_replicas_with_a_volume_each_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError, match=r"persistence\.shared"):
        objects(values)


def test_disruptions_take_one_pod_at_a_time(chart: Objects) -> None:
    spec = chart["PodDisruptionBudget", "tridex"]["spec"]
    assert spec["maxUnavailable"] == 1
    assert spec["selector"] == chart["StatefulSet", "tridex"]["spec"]["selector"]


def test_the_network_is_closed_in_both_directions(chart: Objects) -> None:
    spec = chart["NetworkPolicy", "tridex"]["spec"]
    assert spec["podSelector"] == chart["StatefulSet", "tridex"]["spec"]["selector"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    clients, monitoring = spec["ingress"]
    assert (clients["ports"], clients["from"]) == ([{"port": "grpc"}], [{"podSelector": {}}])
    assert monitoring["ports"] == [{"port": "metrics"}]
    assert all(source["namespaceSelector"]["matchLabels"] for source in monitoring["from"])
    assert spec["egress"] == []


def test_the_monitor_selects_the_service_with_the_metrics(everything: Objects) -> None:
    monitor = everything["ServiceMonitor", "tridex"]["spec"]
    selected = monitor["selector"]["matchLabels"].items()
    services = {name: found for (kind, name), found in everything.items() if kind == "Service"}
    (found,) = [name for name, service in services.items() if selected <= service["metadata"]["labels"].items()]
    ports = {port["name"] for port in services[found]["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= ports


def test_the_autoscaler_follows_the_wait_of_searches(everything: Objects) -> None:
    spec = everything["HorizontalPodAutoscaler", "tridex"]["spec"]
    (metric,) = spec["metrics"]
    assert metric["pods"]["metric"] == {
        "name": "tridex_queue_wait_seconds",
        "selector": {"matchLabels": {"lane": "search"}},
    }
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "tridex"}
    # It alone decides how many there are.
    assert "replicas" not in everything["StatefulSet", "tridex"]["spec"]


def test_another_checkpoint_is_exported_to_where_the_server_reads_it(everything: Objects) -> None:
    (export,) = pod(everything)["initContainers"]
    folder = environment(export)["TRIDEX_REPOSITORY"]
    assert folder.startswith("/data/repositories/")
    assert environment(server(everything))["TRIDEX_REPOSITORY"] == folder
    assert export["args"][1:] == ["organisation/checkpoint", "int8"]
    assert {mount["mountPath"] for mount in export["volumeMounts"]} == {"/data", "/tmp"}
    other = objects({"export": {"model": "organisation/checkpoint", "precision": "fp32"}})
    assert environment(pod(other)["initContainers"][0])["TRIDEX_REPOSITORY"] != folder
    assert "initContainers" not in pod(objects({}))


def test_settings_are_the_servers_environment(everything: Objects) -> None:
    assert environment(server(everything)).items() >= {
        ("TRIDEX_MEMORY_BUDGET", "16GB"),
        ("TRIDEX_TRACE_SAMPLE_RATE", "0.1"),
        ("TRIDEX_API_KEY_FILE", "/etc/tridex/keys/keys.toml"),
        ("TRIDEX_CLIENT_CA", "/etc/tridex/tls/ca.crt"),
    }
