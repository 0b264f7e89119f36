"""Whether a Gluon kernel serves on the device at hand: found out by a process of its own, and kept in the kernel cache.

A kernel that reads where it must not takes the device from its process for good, one that waits for a barrier that
nobody reaches never ends, and a compiler can crash. In a child (probe.py) each of them costs the child, and the verdict
is that the plain kernel serves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import triton
from triton.runtime.cache import CacheManager, get_cache_manager

from tridex.common.nvidia import ask_driver
from tridex.kernels.codec import Codec
from tridex.kernels.segment import Segment

PROBE = "tridex.kernels.gpu.probe"
"""The child's module. It has device, codec, dim and what is searched (roles.py) as arguments, and prints READY,
LAUNCHED, then AGREES or why not."""

READY = "ready"
"""The plain kernel has searched the probe: what goes wrong from here on is the Gluon kernel's fault."""

LAUNCHED = "launched"
"""The Gluon kernel is compiled and runs: a child that runs out of time before is slow, and behind it hangs."""

AGREES = "agrees"

LONGEST_S = 90.0
"""Of a child. It imports torch and compiles, some 20 s, and then searches for milliseconds; half of the time that a
server has by default to start."""

AT_ONCE = 4
"""Children that run at the same time: each compiles on a core and has, by estimate, 0.6 GB of the device."""

_GONE_S = 5.0
"""How long a killed child may take: while the device does not let go of it, it cannot end."""

_FILE = "gluon.json"

_log = logging.getLogger(__name__)

_chosen: set[tuple[str, torch.device, Codec]] = set()

_turns = threading.BoundedSemaphore(AT_ONCE)


@dataclass(frozen=True)
class Verdict:
    """What was found of a kernel."""

    agrees: bool
    reason: str
    """Why it does not serve; empty where it agrees."""


def is_chosen(kind: str, device: torch.device, codec: Codec) -> bool:
    """Whether the codec's Gluon kernel for batches, or for single queries, serves on the device, in this process."""
    return (kind, device, codec) in _chosen


def choose(kind: str, segment: Segment, load: Callable[[], object]) -> None:
    """Decides whether a Gluon kernel serves, by the verdict that is kept or else by a child's; one line of the log.

    Args:
        kind: What the kernel searches (roles.py).
        segment: Of the codec, dim and device.
        load: Runs the kernel once, so that no later search compiles or loads it.
    """
    device, codec = segment.device, segment.codec
    try:
        verdict, kept = _verdict(kind, device, codec, segment.dim)
        if verdict.agrees:
            load()
    except Exception as error:  # Whatever keeps it from being found out, the plain kernel serves.
        verdict, kept = Verdict(agrees=False, reason=one_line(error)), None
    name = codec.value
    if verdict.agrees:
        _chosen.add((kind, device, codec))
        _log.info("the Gluon kernel serves %s in %s on %s: it agrees with the plain one (%s)", kind, name, device, kept)
    else:
        again = f"delete {kept} to have it tried again" if kept else "the next start tries it again"
        _log.warning("the plain kernel serves %s in %s on %s: %s; %s", kind, name, device, verdict.reason, again)


def compile_only(kind: str, codec: Codec, load: Callable[[], object]) -> None:
    """For a device that is elsewhere, and will be asked there. Where it fails, the log has a line."""
    try:
        load()
    except Exception as error:  # Whatever a version of the language says to it.
        _log.warning("the Gluon kernel for %s in %s cannot be compiled: %s", kind, codec.value, one_line(error))


def one_line(error: Exception) -> str:
    """CUDA's errors go on for a page."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _verdict(kind: str, device: torch.device, codec: Codec, dim: int) -> tuple[Verdict, str | None]:
    """The verdict, and the file that it is kept in; None where it says nothing of the kernel and is not kept."""
    cache = get_cache_manager(_key(kind, device, codec, dim))
    if kept := _read(cache):
        return kept
    with _turns:
        verdict, is_the_kernels = ask_child(_command(kind, device, codec, dim), LONGEST_S)
    return verdict, cache.put(json.dumps(asdict(verdict)), _FILE) if is_the_kernels else None


def _read(cache: CacheManager) -> tuple[Verdict, str] | None:
    """None where there is no verdict, or a damaged one."""
    file = cache.get_file(_FILE)
    if file is None:
        return None
    try:
        found = json.loads(Path(file).read_bytes())
    except (OSError, ValueError):
        return None
    match found:
        case {"agrees": bool(agrees), "reason": str(reason)}:
            return Verdict(agrees, reason), file
    return None


def _key(kind: str, device: torch.device, codec: Codec, dim: int) -> str:
    """Of all that a verdict depends on: hexadecimal, as the Triton language's own cache has them."""
    digest = hashlib.sha256(json.dumps([*_described(device), triton.__version__, kind, codec.value, dim]).encode())
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _described(device: torch.device) -> list[object]:
    """The device's model, which a part of a GPU (MIG) has of its own, and its driver."""
    properties = torch.cuda.get_device_properties(device)
    driver = ask_driver()
    return [properties.name, properties.multi_processor_count, driver.version, driver.cuda]


def _command(kind: str, device: torch.device, codec: Codec, dim: int) -> list[str]:
    return [sys.executable, "-m", PROBE, str(device), codec.value, str(dim), kind]


def ask_child(command: Sequence[str], longest_s: float) -> tuple[Verdict, bool]:
    """Runs a child to its end, or kills it.

    The child stays in this process's group, and so ends with a server that is killed.

    Args:
        command: The child's.
        longest_s: Seconds that it may take.

    Returns:
        The verdict, and whether it is one of the kernel: the child had come as far as READY or, where it ran out of
        time, LAUNCHED, and not out of memory, which others may have taken.

    Raises:
        OSError: The child cannot be started.
    """
    variables = {
        **os.environ,
        # This process's modules, also where it is embedded, as in tritonserver, or found them by other means.
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "PYTHONSAFEPATH": "1",
        # Clients of one MPS server share each other's faults. Without its pipes there, CUDA does without it.
        "CUDA_MPS_PIPE_DIRECTORY": os.devnull,
    }
    # A file, not a pipe, whose end a compiler that the child leaves behind would keep open.
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.DEVNULL, env=variables
        )
        try:
            status: int | None = child.wait(longest_s)
        except subprocess.TimeoutExpired:
            status = None
            child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_GONE_S)
        output.seek(0)
        said = output.read().decode(errors="replace").splitlines()
    is_the_kernels = (LAUNCHED if status is None else READY) in said and "out of memory" not in said[-1]
    if status == 0 and is_the_kernels and said[-1] == AGREES:
        return Verdict(agrees=True, reason=""), is_the_kernels
    if status is None:
        reason = f"its probe did not end within {longest_s:g} s"
    elif status < 0:
        reason = f"its probe was ended by {signal.Signals(-status).name}"
    elif said and said[-1] not in (READY, LAUNCHED, AGREES):
        reason = said[-1]
    else:
        reason = f"its probe ended with status {status}"
    return Verdict(agrees=False, reason=reason), is_the_kernels
