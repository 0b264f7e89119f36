"""Whether ONNX Runtime's providers for a GPU can be loaded here: tried in a process of its own, which keeps nothing.

    python -m tridex.serving.providers LOADER

loads one, and prints the problem and its remedy where that cannot be.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tridex import encoding
from tridex.common.device import REINSTALL

_WITHIN_S = 120.0


def try_to_load(loader: str) -> None:
    """Calls a function of tridex.encoding that loads a provider, as load_cuda_provider, in another process.

    Raises ProviderError as the function does, and where that process fails.
    """
    command = [sys.executable, "-m", __name__, loader]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_WITHIN_S)
    except subprocess.TimeoutExpired:
        raise encoding.ProviderError(f"{loader} does not end within {_WITHIN_S:g} s", REINSTALL) from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise encoding.ProviderError(f"{loader} fails: {last}", REINSTALL)
    if done.stdout:
        raise encoding.ProviderError(*json.loads(done.stdout))


def main(loader: str) -> None:
    """Loads a provider. What torch brings is imported, which takes seconds, only where it is missing."""
    load = getattr(encoding, loader)
    try:
        try:
            load()
        except encoding.ProviderError:
            import torch  # noqa: F401

            load()
    except encoding.ProviderError as error:
        print(json.dumps([error.problem, error.remedy]))


if __name__ == "__main__":
    main(sys.argv[1])
