"""Which device a server runs on, what of it is for collections, and what its processes are told of that."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tridex.common import TridexError
from tridex.common.device import CPU, AskDriver, DeviceError, choose_device, number_of
from tridex.common.nvidia import ask_driver
from tridex.serving import kernel_cache
from tridex.serving.memory import choose_budget
from tridex.serving.providers import try_to_load

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

    @property
    def device_of_models(self) -> str:
        """The device as the models count."""
        return CPU if self.device == CPU else "cuda:0"


def place(
    device: str,
    memory_budget: int | None,
    repository: Path,
    cache: Path,
    ask: AskDriver = ask_driver,
    *,
    tensorrt: bool = False,
) -> Placement:
    """Decides by `--device` and `--memory-budget`, and looks whether what encodes on a GPU can be loaded.

    Raises:
        ServerError: The device cannot be used, has too little memory, or cannot run TensorRT; or the kernels' cache is
            not safe.
    """
    try:
        chosen, why_no_gpu = choose_device(device, ask, partial(try_to_load, "load_cuda_provider"))
        if tensorrt:
            _check_tensorrt(chosen, why_no_gpu)
        budget = choose_budget(memory_budget, chosen, repository, ask)
        if chosen != CPU:
            kernel_cache.open_cache(cache)
    except TridexError as error:
        raise ServerError(str(error)) from error
    if chosen == CPU:
        remark = str(why_no_gpu) if why_no_gpu else None
        return Placement(chosen, budget, {_VISIBLE: "", **_cpu_cache(cache)}, remark)
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


def _check_tensorrt(device: str, why_no_gpu: DeviceError | None) -> None:
    """Raises DeviceError where TensorRT cannot run there."""
    if device == CPU:
        raise DeviceError(
            f"--tensorrt is for a GPU, and the device is {device}{f': {why_no_gpu.problem}' if why_no_gpu else ''}",
            why_no_gpu.remedy if why_no_gpu else "serve without --tensorrt, or with --device cuda",
        )
    try_to_load("load_tensorrt_provider")


def _visible(index: int) -> str:
    """What hides all GPUs but one, which may be one of those that the variable names already."""
    given = os.environ.get(_VISIBLE)
    return given.split(",")[index].strip() if given else str(index)
