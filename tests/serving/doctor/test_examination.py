"""This machine, which must be all right for the CPU, and what follows from findings."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import gpus
import pytest
from servers import free_ports
from typer.testing import CliRunner, Result

from tridex.client.cli import create_app
from tridex.common import device as devices
from tridex.common.nvidia import Driver, DriverError
from tridex.encoding import ProviderError
from tridex.serving.doctor import Finding, Report, examination, examine, host, nvidia
from tridex.serving.server import placement
from tridex.serving.server.errors import ServerError
from tridex.serving.server.placement import place
from tridex.serving.settings import ServerSettings

GPU_CHECKS = {"NVIDIA driver", "torch on CUDA", "triton", "encoder on CUDA"}


@pytest.fixture
def settings(repository: Path, tmp_path: Path) -> ServerSettings:
    grpc, http, metrics = free_ports(3)
    return ServerSettings(
        repository=repository, store=tmp_path / "store", grpc_port=grpc, http_port=http, metrics_port=metrics
    )


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU needs beside a driver, on whatever machine."""
    gpus.install_gpu_packages(monkeypatch)
    monkeypatch.setattr(placement, "try_to_load", lambda _: None)
    monkeypatch.setattr(nvidia, "torch_on_cuda", lambda: Finding("torch on CUDA", "ok", ""))
    monkeypatch.setattr(nvidia, "cuda_provider", lambda: Finding("encoder on CUDA", "ok", ""))
    monkeypatch.setattr(examination.packages, "triton", lambda: Finding("triton", "ok", ""))


def on(settings: ServerSettings, device: str) -> ServerSettings:
    return settings.model_copy(update={"device": device})


def raise_(error: Exception) -> NoReturn:
    raise error


def no_driver() -> Driver:
    raise DriverError("there is no NVIDIA driver")


def test_this_machine_serves_on_the_cpu(settings: ServerSettings) -> None:
    report = examine(on(settings, "cpu"))
    needed = [finding for finding in report.findings if finding.needed]
    assert [finding for finding in needed if finding.state != "ok"] == []
    assert report.can_serve and report.device == "cpu" and not GPU_CHECKS & {finding.what for finding in needed}
    assert all(finding.remedy for finding in report.findings if finding.state != "ok")
    assert not settings.store.exists()


def test_without_a_driver_auto_is_the_cpu_and_cuda_cannot_be(settings: ServerSettings) -> None:
    auto, cuda = examine(settings, no_driver), examine(on(settings, "cuda:1"), no_driver)
    assert (auto.device, auto.can_serve) == ("cpu", True)
    assert (cuda.device, cuda.can_serve) == ("cuda:1", False)


@pytest.mark.usefixtures("a_gpu")
def test_auto_is_a_gpu_that_is_ready(settings: ServerSettings) -> None:
    asked: list[Driver] = []

    def ask() -> Driver:
        asked.append(gpus.driver())
        return asked[-1]

    report = examine(settings, ask)
    assert report.device == "cuda:0" and report.can_serve and all(finding.needed for finding in report.findings)
    assert len(asked) == 1, "one answer is for all checks"


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize(
    ("what", "device"),
    [("nothing", "cuda:0"), ("the provider", "cpu"), ("torch", "cpu"), ("GPU", "cpu"), ("memory", "cuda:0")],
)
def test_auto_is_what_the_launcher_takes(
    settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str, device: str
) -> None:
    """And where that does not start, doctor says why."""
    driver = gpus.driver(gpus.T4) if what == "GPU" else gpus.driver()
    if what == "memory":
        driver = gpus.driver(replace(gpus.H200, free_bytes=gpus.GIB))
    if what == "the provider":
        error = ProviderError("no libcurand.so.10", "pip install it")
        monkeypatch.setattr(placement, "try_to_load", lambda _: raise_(error))
        finding = Finding("encoder on CUDA", "fault", error.problem, error.remedy)
        monkeypatch.setattr(nvidia, "cuda_provider", lambda: finding)
    if what == "torch":
        monkeypatch.setattr(devices, "cuda_of_torch", lambda: None)
    report = examine(settings, lambda: driver)
    assert report.device == device and report.can_serve == (what != "memory")
    assert all(finding.remedy for finding in report.findings if finding.state != "ok" and finding.needed)
    if report.can_serve:
        assert place("auto", None, settings.repository, tmp_path / "cache", lambda: driver).device == device
    else:
        with pytest.raises(ServerError, match="nothing is left for collections; end what uses its memory"):
            place("auto", None, settings.repository, tmp_path / "cache", lambda: driver)


def test_tensorrt_on_a_cpu_is_a_fault(settings: ServerSettings) -> None:
    report = examine(settings.model_copy(update={"device": "cpu", "tensorrt": True}))
    assert not report.can_serve and [finding.what for finding in report.findings if finding.needed][-1] == "TensorRT"


@pytest.mark.usefixtures("a_gpu")
def test_one_fault_is_enough(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "guard", lambda: Finding("guard", "missing", "none", "install gcc"))
    assert not examine(settings, gpus.driver).can_serve


def run(monkeypatch: pytest.MonkeyPatch, settings: ServerSettings, *arguments: str) -> Result:
    for name in ("repository", "store", "grpc_port", "http_port", "metrics_port"):
        monkeypatch.setenv(f"TRIDEX_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("COLUMNS", "80")
    return CliRunner().invoke(create_app(), ["doctor", *arguments])


def test_the_command(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, settings, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "tridex serve can run on cpu." in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_the_command_names_what_mends(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "__defaults__", (no_driver,))
    result = run(monkeypatch, settings, "--device", "cuda")
    assert result.exit_code == 1
    assert "NVIDIA driver:\ninstall NVIDIA's driver" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_json(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, settings, "--device", "cpu", "--json")
    report = json.loads(result.stdout)
    assert set(report) == set(Report.__dataclass_fields__) and report["can_serve"] is True
    assert set(report["findings"][0]) == set(Finding.__dataclass_fields__)


def test_a_bad_setting_is_a_sentence(settings: ServerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, settings, "--config", "/nowhere")
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1
