"""Whether ONNX Runtime's providers for a GPU can be loaded here: asked in a process of its own, which keeps nothing."""

from __future__ import annotations

import subprocess
import sys

_WITHIN_S = 120.0


def why_not_loaded(loader: str) -> str | None:
    """What a function of tridex.encoding raises, as load_cuda_provider; None where it loads its provider."""
    program = (
        "import sys\n"
        "from tridex import encoding\n"
        "try:\n"
        f"    encoding.{loader}()\n"
        "except encoding.ProviderError as error:\n"
        "    sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
