"""Errors of the GPU itself, told from all others in one place.

After a fault in a kernel every later call of the process to CUDA fails, and nothing short of a new process mends it. No
answer can be wrong meanwhile: what comes from the device has to be copied, and the copy fails, too. So the first such
error is remembered for the whole process: requests are refused, the model is not ready, and the launcher starts the
server again (tridex.serving.run_folder). What is out of memory, or cannot be captured as a CUDA graph, has failed by
itself and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TORCH_OR_TRITON = re.compile(r"(CUDA|cuDNN|cuBLAS|cuFFT) error|Triton Error \[CUDA\]", re.IGNORECASE)
"""How torch and the Triton language begin what they say of one, as RuntimeError. Its beginning alone is looked at: what
follows in another error may be a client's words."""

_ONNX_RUNTIME = re.compile(r"(CUDA|cuDNN|cuBLAS|cuFFT)\S* (failure|error)", re.IGNORECASE)
"""What ONNX Runtime has somewhere in its message, in exceptions of its own."""

_ALONE = re.compile(
    r"out of memory|ALLOC_FAILED|failure 90[0-8]\b|(CUDA error|Error \[CUDA\]): [^\n]*captur", re.IGNORECASE
)
"""What leaves the device as it was. 900 to 908 are those of captures (cudaErrorStreamCaptureUnsupported and the next
ones), whose messages all speak of capturing."""

_MAX_REASON = 200
"""Characters."""

_reason: str | None = None


def note(error: BaseException) -> bool:
    """Whether the GPU failed; if so, and if it is the first time, that is remembered."""
    global _reason  # noqa: PLW0603  # as CUDA's own state, it is the process's
    found = next(filter(_is_of_the_device, _chain(error)), None)
    if found is not None and _reason is None:
        _reason = f"the GPU failed: {' '.join(str(found).split())[:_MAX_REASON]}"
    return found is not None


def failure() -> str | None:
    """What the GPU failed with; None while it works."""
    return _reason


def _is_of_the_device(error: BaseException) -> bool:
    text = str(error)
    if type(error).__module__.startswith("onnxruntime."):
        found = _ONNX_RUNTIME.search(text)
    else:
        found = _TORCH_OR_TRITON.match(text) if isinstance(error, RuntimeError) else None
    return found is not None and not _ALONE.search(text)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: loading a collection takes a failed copy for one of storage."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
