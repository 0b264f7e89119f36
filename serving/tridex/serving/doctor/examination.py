"""All checks, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from tridex.serving.settings import ServerSettings

from . import host, nvidia, packages
from .finding import Finding

Device = Literal["cpu", "cuda", "auto"]


@dataclass(frozen=True)
class Report:
    """Every finding, for the device that was asked for; of "auto", for the one that it comes to."""

    device: Literal["cpu", "cuda"]
    has_gpu: bool
    can_serve: bool
    findings: tuple[Finding, ...]


def examine(device: Device, settings: ServerSettings) -> Report:
    """Looks at everything that `tridex serve` would need with these settings.

    "auto" is the GPU where all that it needs is there, and the CPU otherwise. Takes the seconds that importing torch
    takes, and changes nothing.
    """
    built = nvidia.cuda()
    driver, gpus = nvidia.driver_and_gpus(built)
    extra = "gpu" if device == "cuda" or (device == "auto" and gpus) else "embedded"
    base = (
        host.python(),
        host.compiler(),
        packages.tritonserver(extra),
        packages.numpy(),
        packages.onnx_runtime(extra),
        packages.torch(extra),
        host.memory(),
        host.shared_memory(),
        host.disk(settings.store),
        host.port("grpc", settings.host, settings.grpc_port),
        host.port("http", settings.host, settings.http_port),
        host.port("metrics", settings.metrics_host, settings.metrics_port),
        host.repository(settings.repository, extra),
    )
    on_gpu = (driver, *gpus, nvidia.cuda_of_torch(built), packages.triton(), nvidia.cuda_provider())
    chosen: Literal["cpu", "cuda"] = "cuda" if device == "cuda" or (device == "auto" and _all_ok(on_gpu)) else "cpu"
    findings = (*base, *(replace(finding, needed=chosen == "cuda") for finding in on_gpu))
    return Report(chosen, bool(gpus), _all_ok(finding for finding in findings if finding.needed), findings)


def _all_ok(findings: Iterable[Finding]) -> bool:
    return all(finding.state == "ok" for finding in findings)
