"""The default of the memory budget: what there is for collections on the device that searches them.

On a GPU that is what is free when the server starts, less what the server itself needs there:

    budget = free - contexts - encoder - batches - total / 32

Only the first term is measured, the others are estimates on the safe side. On an H200 a context took 0.6 GB, and
MiniLM's encoder of 45 MB 0.2 GB beside its context. The last term is for what allocators keep and cannot use.
"""

from __future__ import annotations

import os
from pathlib import Path

from tridex.common.device import CPU, AskDriver, DeviceError, check_gpu, number_of
from tridex.common.nvidia import Gpu, ask_driver
from tridex.encoding import latest_version_dir
from tridex.encoding.manifest import MODEL_FILE
from tridex.protocol import models

_HOST_SHARE = 0.5
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_CONTEXT_BYTES = 600 * 10**6
_CONTEXTS = 3
"""Of tritonserver, search and encoder."""
_PROBED = (9, 0)
_PROBES = 4
"""On GPUs of that capability, at most so many processes at a time compare kernels when a codec is first loaded
(tridex.kernels.gpu.gluon.verdict)."""
_GRAPH_SHARE = 4
"""The encoder's weights, in two processes, and as much again while they are loaded."""
_ENCODER_BYTES = 1536 * 2**20
"""Its working memory, with that of its CUDA graphs."""
_BATCHES_BYTES = 2**30
"""Queries and sort keys of the searches that are under way."""
_ALLOCATORS_SHARE = 1 / 32

_LEAST_BYTES = 64 * 2**20
"""A budget for anything at all."""


def choose_budget(wanted: int | None, device: str, repository: Path, ask: AskDriver = ask_driver) -> int:
    """Bytes for collections: those that are wanted, or the default.

    Args:
        wanted: None for the default.
        device: "cpu" or "cuda:N".
        repository: The model repository, for the encoder's size.
        ask: Asks NVIDIA's driver.

    Raises:
        DeviceError: The GPU has not so much memory beside what the server itself needs.
    """
    if device == CPU:
        return wanted or host_budget()
    gpu = check_gpu(number_of(device), ask)
    graph = sum(
        file.stat().st_size for file in latest_version_dir(repository / models.ENCODER.name).glob(f"{MODEL_FILE}*")
    )
    own = own_bytes(gpu, graph)
    free = gpu.total_bytes if gpu.free_bytes is None else gpu.free_bytes
    most = free - own
    has = f"{device} ({gpu.name}) has {_gb(free)} of {_gb(gpu.total_bytes)} free; encoder and searches need {_gb(own)}"
    if most < _LEAST_BYTES:
        raise DeviceError(
            f"{has}: nothing is left for collections",
            "end what uses its memory, give another server on it a --memory-budget, or choose another by --device",
        )
    if wanted is not None and wanted > most:
        raise DeviceError(f"the memory budget is {_gb(wanted)}; {has}", f"expected at most {_gb(most)}")
    return wanted or most


def own_bytes(gpu: Gpu, graph_bytes: int) -> int:
    """What a server takes of a GPU beside its collections, estimated."""
    contexts = _CONTEXTS + (_PROBES if gpu.capability == _PROBED else 0)
    encoder = _GRAPH_SHARE * graph_bytes + _ENCODER_BYTES
    return contexts * _CONTEXT_BYTES + encoder + _BATCHES_BYTES + int(gpu.total_bytes * _ALLOCATORS_SHARE)


def host_budget() -> int:
    """The default on a CPU: half of the memory, or of what the container may have of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP_LIMIT.read_text().strip() if _CGROUP_LIMIT.exists() else "max"
    return int(min(total, int(limit) if limit.isdigit() else total) * _HOST_SHARE)


def _gb(count: int) -> str:
    return f"{count / 10**9:,.1f} GB"
