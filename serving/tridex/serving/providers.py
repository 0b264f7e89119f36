"""Whether ONNX Runtime's providers for a GPU can be loaded here: tried in a process of its own, which keeps nothing.

    python -m tridex.serving.providers LOADER

loads one, or prints the problem and its remedy in a last line and ends with status 3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tridex import encoding
from tridex.common.device import REINSTALL

_WITHIN_S = 120.0

_NOT_LOADED = 3
"""The status of a process that could not load it; others have failed otherwise."""


def try_to_load(loader: str) -> None:
    """Calls a function of tridex.encoding that loads a provider, as load_cuda_provider, in another process.

    Raises ProviderError as the function does, and where that process fails.
    """
    command = [sys.executable, "-m", __name__, loader]
    variables = {**os.environ, "PYTHONSAFEPATH": "1"}  # no module of the folder that the command was called in
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WITHIN_S, env=variables)
    except subprocess.TimeoutExpired:
        raise encoding.ProviderError(f"{loader} does not end within {_WITHIN_S:g} s", REINSTALL) from None
    if done.returncode == _NOT_LOADED:
        raise encoding.ProviderError(*json.loads(done.stdout.splitlines()[-1]))
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise encoding.ProviderError(f"{loader} fails: {last}", REINSTALL)


def main(loader: str) -> None:
    """Loads a provider."""
    try:
        getattr(encoding, loader)()
    except encoding.ProviderError as error:
        print(json.dumps([error.problem, error.remedy]))
        sys.exit(_NOT_LOADED)


if __name__ == "__main__":
    main(sys.argv[1])
