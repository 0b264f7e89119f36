"""The one module that knows Triton server's Python backend: wraps a service as the TritonPythonModel of a model.py."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

# Put on the path by the backend's stub. Its names are looked up when used: the stub adds Tensor and the rest later.
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from tridex.protocol.refusals import Refusal, tagged

from .environment import memory_budget, run_folder, store_folder
from .health import Reporter
from .service import Arrays, Context, Counter, ErrorCode, Request, RequestError, Result, Service

_STOPPING = RequestError(ErrorCode.UNAVAILABLE, "the server is stopping")


def python_model(service_class: type[Service]) -> type:
    """The class that the Python backend instantiates, answering through `service_class`."""

    class TritonPythonModel:
        def initialize(self, args: dict[str, str]) -> None:
            self._reporter = Reporter(args["model_name"], args["model_instance_name"], run_folder())
            on_gpu = args["model_instance_kind"] == "GPU"
            self._service = service_class(
                Context(
                    repository=Path(args["model_repository"]).parent,
                    device=f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu",
                    store=store_folder(),
                    infer=_infer,
                    metrics=_Metrics(),
                    memory_budget=memory_budget(),
                )
            )
            self._reporter.service = self._service
            # What is loaded by now stays: collections need not walk through torch's and lance's objects again.
            gc.collect()
            gc.freeze()

        def execute(self, requests: Sequence[Any]) -> list[Any] | None:
            if not self._reporter.admit(len(requests)):
                return [_response(request, _STOPPING) for request in requests]
            try:
                results = self._service.answer([_request(request) for request in requests])
            except BaseException:
                self._reporter.answered(len(requests))
                raise
            ready = [result for result in results if not isinstance(result, Future)]
            if len(ready) == len(results):
                self._reporter.answered(len(requests))
                return [_response(request, result) for request, result in zip(requests, ready, strict=True)]
            for request, result in zip(requests, results, strict=True):
                _send(request, result, self._reporter)
            return None

        def finalize(self) -> None:
            self._reporter.close()

    return TritonPythonModel


class _Metrics:
    """The server's custom metrics."""

    def counter(self, name: str, description: str) -> Counter:
        family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
        counters: dict[tuple[tuple[str, str], ...], Any] = {}

        def add(labels: Mapping[str, str], amount: float) -> None:
            key = tuple(sorted(labels.items()))
            if key not in counters:
                counters[key] = family.Metric(labels=dict(labels))
            counters[key].increment(amount)

        return add


def _array(tensor: Any) -> Any:
    if tensor.is_cpu():
        return tensor.as_numpy()
    # Only where there is a GPU: importing torch takes two seconds, and half of the models do without.
    from torch.utils.dlpack import from_dlpack

    return from_dlpack(tensor.to_dlpack())


def _request(request: Any) -> Request:
    return Request(
        inputs={tensor.name(): _array(tensor) for tensor in request.inputs()},
        parameters=json.loads(request.parameters() or "{}"),
        timeout_s=request.timeout() / 1e6 or None,
    )


def _send(request: Any, result: Result, reporter: Reporter) -> None:
    """Answers by itself, now or when the result is there; the backend wants all requests of a batch answered so."""
    if isinstance(result, Future):
        result.add_done_callback(lambda done: _send(request, done.result(), reporter))
        return
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    try:
        request.get_response_sender().send(_response(request, result), flags=final)
    finally:
        reporter.answered()


def _response(request: Any, result: Arrays | RequestError) -> Any:
    if isinstance(result, RequestError):
        return pb_utils.InferenceResponse(error=_error(result))
    wanted = request.requested_output_names()
    tensors = [pb_utils.Tensor(name, value) for name, value in result.items() if name in wanted]
    return pb_utils.InferenceResponse(tensors)


def _error(refusal: RequestError) -> Any:
    if refusal.code.value in Refusal.__members__:
        return pb_utils.TritonError(tagged(Refusal(refusal.code.value), str(refusal)), pb_utils.TritonError.INTERNAL)
    return pb_utils.TritonError(str(refusal), getattr(pb_utils.TritonError, refusal.code.value))


def _infer(model: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Calls another model of this server and waits for it."""
    response = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        requested_output_names=list(outputs),
    ).exec()
    if response.has_error():
        stopping = response.error().code() == pb_utils.TritonError.UNAVAILABLE
        code = ErrorCode.UNAVAILABLE if stopping else ErrorCode.INTERNAL
        raise RequestError(code, f"model {model}: {response.error().message()}")
    return {tensor.name(): _array(tensor) for tensor in response.output_tensors()}
