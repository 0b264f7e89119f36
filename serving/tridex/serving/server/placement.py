"""Which device a server runs on, what of it is for collections, and what its processes are told of that."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tridex.common import TridexError
from tridex.common.device import AUTO, CPU, AskDriver, DeviceError, number_of, resolve_device, why_no_gpu
from tridex.common.nvidia import ask_driver
from tridex.serving import kernel_cache
from tridex.serving.memory import choose_budget
from tridex.serving.providers import why_not_loaded

from .errors import ServerError

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placement:
    """Where a server runs. Decided once, so that it is the same after a restart by the supervisor."""

    device: str
    """ "cpu" or "cuda:N"."""
    memory_budget: int
    """Bytes."""
    environment: Mapping[str, str]
    """Of tritonserver: it and its models see one GPU, as their first, or none."""
    remark: str | None
    """Why "auto" is the CPU."""


def place(
    device: str,
    memory_budget: int | None,
    repository: Path,
    cache: Path,
    ask: AskDriver = ask_driver,
    *,
    tensorrt: bool = False,
) -> Placement:
    """Decides by `--device` and `--memory-budget`, and looks whether there is what `--tensorrt` needs.

    Raises:
        ServerError: The device cannot be used, has too little memory, or cannot run TensorRT; or the kernels' cache is
            not safe.
    """
    try:
        chosen = resolve_device(device, ask)
        if tensorrt:
            _check_tensorrt(chosen, ask)
        budget = choose_budget(memory_budget, chosen, repository, ask)
        if chosen != CPU:
            kernel_cache.open_cache(cache)
    except TridexError as error:
        raise ServerError(str(error)) from error
    if chosen == CPU:
        reason = why_no_gpu(ask) if device == AUTO else None
        return Placement(chosen, budget, {_VISIBLE: "", **_cpu_cache(cache)}, str(reason) if reason else None)
    variables = {_VISIBLE: _visible(number_of(chosen)), kernel_cache.VARIABLE: str(cache)}
    return Placement(chosen, budget, variables, None)


def _cpu_cache(cache: Path) -> dict[str, str]:
    """By what the models learn where compiled loops are kept; nothing where they cannot be, as beside a store that is
    the root of a volume."""
    try:
        kernel_cache.open_cache(cache)
    except kernel_cache.KernelCacheError as error:
        _logger.warning("each start compiles the CPU's loops, 9 s: %s", error)
        return {}
    return {kernel_cache.NUMBA_VARIABLE: str(kernel_cache.cpu_folder(cache))}


def _check_tensorrt(device: str, ask: AskDriver) -> None:
    """Raises DeviceError where TensorRT cannot run there."""
    if device == CPU:
        reason = why_no_gpu(ask)
        raise DeviceError(
            f"--tensorrt is for a GPU, and the device is {device}{f': {reason.problem}' if reason else ''}",
            "serve without --tensorrt, or with --device cuda",
        )
    if problem := why_not_loaded("load_tensorrt_provider"):
        raise ServerError(problem)


def _visible(index: int) -> str:
    """What hides all GPUs but one, which may be one of those that the variable names already."""
    given = os.environ.get(_VISIBLE)
    return given.split(",")[index].strip() if given else str(index)
