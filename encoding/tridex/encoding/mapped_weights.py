"""A copy of an exported graph whose weights lie in a file of their own, as ONNX Runtime multiplies by them on this CPU.

Every session maps that file, so that all sessions and processes of a server have the weights in memory once. Otherwise
each session holds its own: MiniLM in float32 took 97 MB a session, two sessions a process, two processes a server.
Outputs are the same bits.
"""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import onnxruntime

_MIN_BYTES = 1024
"""Smaller weights stay in the graph."""
_ERROR = 3
"""ONNX Runtime's severity. Its warning is that the copy is for this machine."""


def with_mapped_weights(graph: Path, folder: Path) -> Path:
    """The copy's graph, which the first process to ask makes in `folder` while others wait.

    Args:
        graph: As exported.
        folder: Of one machine, one version of ONNX Runtime and one export, such as a running server's own.

    Raises:
        OSError: The folder has no room for the weights.
    """
    copy = folder / "encoder"
    with (folder / "encoder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            partial = folder / "encoder.partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
            partial.mkdir()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = _ERROR
            options.optimized_model_filepath = str(partial / graph.name)
            for name, value in {
                "save_external_prepacked_constant_initializers": "1",
                "optimized_model_external_initializers_file_name": "weights",
                "optimized_model_external_initializers_min_size_in_bytes": str(_MIN_BYTES),
            }.items():
                options.add_session_config_entry(f"session.{name}", value)
            onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
            partial.rename(copy)
    return copy / graph.name
