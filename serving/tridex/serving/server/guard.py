"""Builds the library that keeps requests that would harm concurrent clients out of Triton server (guard.c)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tridex.common.errors import RemediableError
from tridex.protocol import limits, models
from tridex.serving import cancelled_calls
from tridex.serving.gate import GIVEN_UP, LANES

from .errors import ServerError

_SOURCE = Path(__file__).with_name("guard.c")

_INSTALL = "apt-get install gcc libc6-dev"
_MOVE = "set TMPDIR to a folder that is not mounted noexec, without spaces and colons in its path"


class GuardError(RemediableError, ServerError):
    """The library cannot be built or loaded."""


def guard_environment(folder: Path, gate: Path, cancelled: Path) -> dict[str, str]:
    """The environment in which a tritonserver is guarded. Builds the library in `folder` (0.1 s) and loads it
    once, where it is not there.

    `gate` is the file by which models say how long requests wait (gate.py), `cancelled` that by which they learn which
    calls were cancelled (cancelled_calls.py).

    Raises GuardError where there is no C compiler, or the loader takes no library from that folder.
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
        raise GuardError("there is no C compiler, which builds the server's guard", _INSTALL)
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise GuardError(f"{compiler} could not build the server's guard ({built.stderr.strip()[-500:]})", _INSTALL)
    # Whatever else is to be preloaded may be missing, and the loader goes on without.
    tried = subprocess.run(["true"], env={"LD_PRELOAD": str(library)}, capture_output=True, text=True, check=False)
    if tried.stderr:
        raise GuardError(
            f"the server's guard cannot be loaded from {library.parent} ({tried.stderr.splitlines()[0][-500:]})", _MOVE
        )
