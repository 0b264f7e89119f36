"""A GPU's own errors are told from all others, and end in a new start of the server, not in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from eventually import eventually
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from tridex.serving.backend import device_failure
from tridex.serving.backend.answers import Answers
from tridex.serving.backend.background import LoggedErrors
from tridex.serving.backend.lane import Lane, Task
from tridex.serving.backend.reporter import Reporter
from tridex.serving.backend.scheduler import Scheduler
from tridex.serving.backend.service import Arrays, ErrorCode, RequestError, Sender, as_request_error
from tridex.serving.run_folder import RunFolder

ILLEGAL = "CUDA error: an illegal memory access was encountered\nSearch for `cudaErrorIllegalAddress' in ..."
IN_ONNX_RUNTIME = (
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running MatMul node. "
    "Status Message: CUDA failure 700: an illegal memory access was encountered ; GPU=0"
)


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_failure, "_reason", None)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError(ILLEGAL),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        Fail(IN_ONNX_RUNTIME),
        Fail(f"{IN_ONNX_RUNTIME} ; expr=cudaStreamEndCapture(stream_, &graph)"),
    ],
    ids=["torch", "cuDNN", "cuBLAS", "triton", "ONNX Runtime", "found when a capture ends"],
)
def test_errors_of_the_gpu(error: Exception) -> None:
    refusal = as_request_error(error, "requests failed")
    assert refusal.code is ErrorCode.UNAVAILABLE and "illegal" not in str(refusal)
    assert str(device_failure.failure()).startswith("the GPU failed: ")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("no query may contain 'CUDA error: an illegal memory access'"),
        ValueError(ILLEGAL),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        Fail("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0"),
        Fail("[ONNXRuntimeError] : 1 : FAIL : invalid input"),
        Fail(
            "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 900: operation not permitted when stream is capturing ; GPU=0"
        ),
        torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture\nSearch for ..."),
        RuntimeError("Triton Error [CUDA]: operation not permitted when stream is capturing"),
    ],
)
def test_errors_of_one_request(error: Exception) -> None:
    assert as_request_error(error, "requests failed").code is ErrorCode.INTERNAL
    assert device_failure.failure() is None


def test_one_that_was_taken_for_another_is_found_behind_it() -> None:
    try:
        try:
            raise torch.AcceleratorError(ILLEGAL)
        except RuntimeError as error:
            raise OSError("collection 'docs' cannot be read") from error
    except OSError as error:
        LoggedErrors().log("docs", error, "a collection could not be followed")
    assert device_failure.failure() is not None


class Parsed:
    """A request, as far as the scheduler knows one."""

    sender = Sender()


def test_a_batch_in_which_the_gpu_fails_is_refused_as_a_whole_and_the_launcher_learns_of_it(tmp_path: Path) -> None:
    def finish(_: Sequence[Task[Parsed]]) -> None:
        raise torch.AcceleratorError(ILLEGAL)

    run = RunFolder(tmp_path / "run")
    reporter = Reporter("search", "search_0_0", run.folder, Answers())
    lane: Lane[Parsed] = Lane(finish, name="the search", label="search", default_wait_s=10, max_weight=8)
    scheduler = Scheduler(lambda _: [], (lane,))
    assert reporter.admit(1)
    with scheduler.together():
        answers = [scheduler.submit(Task(Parsed(), iter(())), lane) for _ in range(3)]
    results: list[Arrays | RequestError] = [answer.result(30) for answer in answers]
    assert all(isinstance(result, RequestError) and result.code is ErrorCode.UNAVAILABLE for result in results)
    assert not reporter.admit(1)
    eventually(lambda: any(report.failure for report in run.reports()))
    (report,) = run.reports()
    assert report.trouble == report.failure == device_failure.failure()
    scheduler.close()
    reporter.close()
