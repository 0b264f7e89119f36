"""Builds the library that keeps requests that would harm concurrent clients out of Triton server (guard.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tridex.protocol import limits, models
from tridex.serving import cancelled_calls
from tridex.serving.gate import GIVEN_UP, LANES

from .errors import ServerError

_SOURCE = Path(__file__).with_name("guard.c")


class GuardError(ServerError):
    """The library cannot be built; the message says what is missing."""


def guard_environment(folder: Path, gate: Path, cancelled: Path) -> dict[str, str]:
    """The environment in which a tritonserver is guarded. Builds the library in `folder` (0.1 s) where it is not there.

    `gate` is the file by which models say how long requests wait (gate.py), `cancelled` that by which they learn which
    calls were cancelled (cancelled_calls.py).

    Raises GuardError where there is no C compiler.
    """
    library = folder / "tridex-guard.so"
    if not library.exists():
        _build(library)
    preloaded = [str(library), *filter(None, [os.environ.get("LD_PRELOAD")])]
    return {
        "LD_PRELOAD": " ".join(preloaded),
        "TRIDEX_INTERNAL_MODELS": ",".join(sorted(models.INTERNAL)),
        "TRIDEX_GATE": str(gate),
        "TRIDEX_GATE_LANES": ",".join(f"{of}={lane:d}" for of, lane in LANES.items()),
        "TRIDEX_CANCELLED": str(cancelled),
        "TRIDEX_CALL_PARAMETER": cancelled_calls.PARAMETER,
        "TRIDEX_GIVEN_UP": GIVEN_UP,
        "TRIDEX_MAX_INPUT_BYTES": str(limits.MAX_INPUT_BYTES),
    }


def _build(library: Path) -> None:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise GuardError("there is no C compiler, which the server's guard is built with: install gcc, or set CC")
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise GuardError(f"the server's guard could not be built by {compiler}: {built.stderr.strip()[-500:]}")
