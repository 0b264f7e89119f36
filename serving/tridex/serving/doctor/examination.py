"""All checks, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from tridex.common.device import AUTO, CPU, AskDriver, DeviceError, choose_device, number_of
from tridex.common.nvidia import ask_driver
from tridex.serving.settings import ServerSettings

from . import host, nvidia, packages
from .finding import Finding


@dataclass(frozen=True)
class Report:
    """Every finding, for the device that was asked for; of "auto", for the one that it comes to."""

    device: str
    """ "cpu" or "cuda:N"."""
    has_gpu: bool
    can_serve: bool
    findings: tuple[Finding, ...]


def examine(settings: ServerSettings, ask: AskDriver = ask_driver) -> Report:
    """Looks at everything that `tridex serve` would need with these settings.

    "auto" is the first GPU where all that it needs is there, and the CPU otherwise. Takes the seconds that importing
    torch takes, and changes nothing.
    """
    ask = cache(ask)  # one answer for all checks
    wanted = settings.device
    index = number_of(wanted)
    driver, gpus = nvidia.driver_and_gpus(ask, index)
    provider = nvidia.cuda_provider()
    use_gpu = _uses_gpu(wanted, ask, provider)
    extra = "gpu" if wanted != CPU and (wanted != AUTO or gpus) else "embedded"
    encoder = host.repository(settings.repository, extra)
    base = (
        host.python(),
        host.guard(),
        packages.tritonserver(extra),
        packages.numpy(),
        packages.onnx_runtime(extra),
        packages.torch(extra),
        host.memory(),
        host.shared_memory(),
        host.open_files(),
        host.disk(settings.store),
        host.port("grpc", settings.host, settings.grpc_port),
        host.port("http", settings.host, settings.http_port),
        host.port("metrics", settings.metrics_host, settings.metrics_port),
        host.secrets(settings),
        host.log(settings),
        encoder,
    )
    device = f"cuda:{index}" if use_gpu else CPU
    on_gpu = [driver, *gpus, nvidia.torch_on_cuda(), packages.triton(), provider]
    if use_gpu and _all_ok([*on_gpu, encoder]):
        on_gpu.append(nvidia.budget(settings.memory_budget, device, settings.repository, ask))
    findings = [*base, *(finding if use_gpu else replace(finding, needed=False) for finding in on_gpu)]
    if settings.tensorrt:
        findings.append(nvidia.tensorrt(device))
    return Report(device, bool(gpus), _all_ok(findings), tuple(findings))


def _uses_gpu(wanted: str, ask: AskDriver, provider: Finding) -> bool:
    """Whether the server would run on a GPU: "auto" as the launcher decides it."""
    if wanted != AUTO:
        return wanted != CPU

    def load() -> None:
        if provider.state != "ok":
            raise DeviceError(provider.detail, provider.remedy)

    try:
        return choose_device(wanted, ask, load).device != CPU
    except DeviceError:  # no device can be used; another finding says why
        return False


def _all_ok(findings: Iterable[Finding]) -> bool:
    return all(finding.state == "ok" for finding in findings if finding.needed)
