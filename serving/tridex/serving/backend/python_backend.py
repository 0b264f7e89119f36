"""The one module that knows Triton server's Python backend: wraps a service as the TritonPythonModel of a model.py."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

# Put on the path by the backend's stub. Its names are looked up when used: the stub adds Tensor and the rest later.
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from tridex.common.device import is_one_device, resolve_device
from tridex.protocol.error_tags import ErrorTag, tagged, untagged
from tridex.protocol.models import INTERNAL
from tridex.serving import run_folder
from tridex.serving.access.access import Access
from tridex.serving.cancelled_calls import CancelledCalls
from tridex.serving.forwarded_headers import AUTHORIZATION, TRACEPARENT, take_header
from tridex.serving.gate import GIVEN_UP, no_gate, open_gate
from tridex.serving.log_record import ToLauncher
from tridex.serving.memory import choose_budget
from tridex.serving.metrics.registry import Gauge, Metrics
from tridex.serving.metrics.table import IN_FLIGHT, Stage
from tridex.serving.settings import ModelSettings, variable

from . import device_failure
from .answers import Answers
from .background import LoggedErrors
from .metrics_file import MetricsFile
from .recorder import Recorder
from .reporter import Reporter
from .service import (
    Arrays,
    Context,
    ErrorCode,
    Request,
    RequestError,
    Result,
    Sender,
    Service,
    abandoned,
    as_request_error,
    device_failed,
    invalid,
)
from .trace_context import parse_traceparent

_log = logging.getLogger(__name__)

_STOPPING = RequestError(ErrorCode.UNAVAILABLE, "the server is stopping")


def python_model(service_class: type[Service]) -> type:
    """The class that the Python backend instantiates, answering through `service_class`."""

    class TritonPythonModel:
        def initialize(self, args: dict[str, str]) -> None:
            os.nice(service_class.NICENESS)
            folder = Path(given) if (given := os.environ.get(run_folder.VARIABLE)) else None
            model, instance = args["model_name"], args["model_instance_name"]
            if folder:
                _log_to_launcher(model)
            on_gpu = args["model_instance_kind"] == "GPU"
            self._answers = Answers() if on_gpu else None
            self._errors = LoggedErrors()
            self._reporter = Reporter(model, instance, folder, self._answers)
            settings = ModelSettings.load()
            self._model = args["model_name"]
            # The server's own models are called by the others alone, for requests that these have let in.
            self._access = Access(None if self._model in INTERNAL else settings.api_key_file)
            repository = Path(args["model_repository"]).parent
            # The launcher says both, and which GPU. Where tritonserver was started by hand and nobody does, the driver
            # is asked, and whoever has asked it sees every GPU from then on; without a context all the same.
            server_device = settings.device if is_one_device(settings.device) else resolve_device(settings.device)
            budget = settings.memory_budget or choose_budget(None, server_device, repository)
            if not on_gpu:
                # A CUDA context would take half a gigabyte of the GPU, and turns from the searches.
                os.environ["CUDA_VISIBLE_DEVICES"] = ""
            self._metrics = Metrics()
            self._metrics.gauges(lambda: [Gauge(IN_FLIGHT, (model,), self._reporter.in_flight)])
            self._recorder = _recorder(self._metrics, settings, model, folder)
            self._service = service_class(
                Context(
                    repository=repository,
                    device=f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu",
                    store=settings.store,
                    infer=_infer,
                    metrics=self._metrics,
                    server_device=server_device,
                    memory_budget=budget,
                    recall_sample_rate=settings.recall_sample_rate,
                    tensorrt=settings.tensorrt,
                    shared=folder,
                    gate=open_gate(folder / run_folder.GATE) if folder else no_gate,
                )
            )
            self._reporter.service = self._service
            self._cancelled_calls = CancelledCalls(folder / run_folder.CANCELLED if folder else None)
            self._metrics_file = MetricsFile(self._metrics, folder, instance) if folder else None
            # What is loaded by now stays: collections need not walk through torch's and lance's objects again.
            gc.collect()
            gc.freeze()
            _give_back()

        def execute(self, requests: Sequence[Any]) -> None:
            """Every request is answered by its own sender (0.01 ms more than by the returned list), now or later."""
            with self._reporter.executing():
                self._execute(requests)

        def _execute(self, requests: Sequence[Any]) -> None:
            if not self._reporter.admit(len(requests)):
                refusal = device_failed() if device_failure.failure() else _STOPPING
                for request in requests:
                    _send(request, refusal)
                return
            good: dict[int, Request] = {}
            for i, request in enumerate(requests):
                try:
                    good[i] = self._read(request)
                except Exception as error:
                    self._answer(request, Sender(), as_request_error(error, "a request could not be read"))
            try:
                results: Sequence[Result] = self._service.answer(list(good.values()))
            except Exception as error:
                results = [as_request_error(error, "requests failed")] * len(good)
            for i, result in zip(good, results, strict=True):
                self._answer(requests[i], good[i].sender, result)

        def _read(self, request: Any) -> Request:
            """Raises AccessError, and RequestError where the request cannot be read."""
            parameters = _parameters(request)
            is_cancelled = self._cancelled_calls.take(parameters) or request.is_cancelled
            trace = parse_traceparent(take_header(parameters, TRACEPARENT))
            caller = self._access.caller(take_header(parameters, AUTHORIZATION))
            caller.check(self._model, parameters)
            if is_cancelled():
                raise abandoned()
            return Request(
                inputs={tensor.name(): _array(tensor) for tensor in request.inputs()},
                parameters=parameters,
                sender=Sender(request.timeout() / 1e6 or None, is_cancelled, caller.may_read, trace),
            )

        def _answer(self, request: Any, sender: Sender, result: Result) -> None:
            """Answers a request that was admitted, now or when the result is there."""
            if isinstance(result, Future):
                result.add_done_callback(lambda done: self._answer_later(request, sender, done.result()))
                return
            if isinstance(result, RequestError):
                result = result.to(sender)
            try:
                with sender.timeline.stage(Stage.ANSWER):
                    error = _send(request, result)
                if self._recorder:
                    self._recorder.answered(sender, error)
                self._errors.resolved("answers")
            except Exception as error:  # It costs its own request an answer, and no other.
                self._errors.log("answers", error, "an answer could not be sent")
            finally:
                self._reporter.answered()

        def _answer_later(self, request: Any, sender: Sender, result: Arrays | RequestError) -> None:
            """On a GPU leaves it to another thread, unless nobody else waits: waking that takes longer than answering.

            On a CPU the next batch would begin with the few clients that are answered first, and batches be small.
            """
            if self._answers and self._reporter.in_flight > 1:
                self._answers.submit(lambda: self._answer(request, sender, result))
            else:
                self._answer(request, sender, result)

        def finalize(self) -> None:
            self._reporter.close()
            if self._recorder:
                self._recorder.close()
            if self._metrics_file:
                self._metrics_file.close()

    return TritonPythonModel


def _give_back() -> None:
    """Returns to the system what starting took and has freed: the graph's file, compilers' memory. glibc keeps it."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def _log_to_launcher(model: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(ToLauncher(model))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _recorder(metrics: Metrics, settings: ModelSettings, model: str, folder: Path | None) -> Recorder | None:
    """None for a model that others call for requests of their own."""
    if model in INTERNAL:
        return None
    if not settings.otlp_endpoint:
        return Recorder(metrics, None)
    # Only where it is wanted, as it is an extra.
    from .tracing import Tracer

    return Recorder(metrics, Tracer(settings.otlp_endpoint, settings.trace_sample_rate, model, folder))


def _array(tensor: Any) -> Any:
    if tensor.is_cpu():
        return tensor.as_numpy()
    # Only where there is a GPU: importing torch takes two seconds, and half of the models do without.
    from torch.utils.dlpack import from_dlpack

    return from_dlpack(tensor.to_dlpack())


def _parameters(request: Any) -> dict[str, Any]:
    try:
        parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
    except (ValueError, RecursionError) as error:
        raise invalid(
            f"the parameters are no valid UTF-8 or JSON ({error}); expected text, numbers and bools"
        ) from None
    return parameters


def _send(request: Any, result: Arrays | RequestError) -> RequestError | None:
    """The error that was sent, if it was one."""
    final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    try:
        request.get_response_sender().send(_response(request, result), flags=final)
        return result if isinstance(result, RequestError) else None
    except Exception as error:
        failure = as_request_error(error, "an answer could not be sent")
        request.get_response_sender().send(pb_utils.InferenceResponse(error=_error(failure)), flags=final)
        return failure


def _response(request: Any, result: Arrays | RequestError) -> Any:
    if isinstance(result, RequestError):
        return pb_utils.InferenceResponse(error=_error(result))
    wanted = request.requested_output_names()
    tensors = [pb_utils.Tensor(name, value) for name, value in result.items() if name in wanted]
    return pb_utils.InferenceResponse(tensors)


def _error(error: RequestError) -> Any:
    # Where files lie is the operator's business: the log has the whole message.
    message = str(error).replace(str(Path(os.environ[variable("store")])), "<store>")
    if error.code.value in ErrorTag.__members__:
        return pb_utils.TritonError(tagged(ErrorTag(error.code.value), message), pb_utils.TritonError.INTERNAL)
    return pb_utils.TritonError(message, getattr(pb_utils.TritonError, error.code.value))


def _infer(model: str, inputs: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Calls another model of this server and waits for it. Raises RequestError, UNAVAILABLE and OVERLOADED where that
    says nothing about the model, or it could not be called."""
    call = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[pb_utils.Tensor(name, value) for name, value in inputs.items()],
        requested_output_names=list(outputs),
        # The models that call others see no GPU, so that they could not read what the container's encoder leaves there.
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    )
    try:
        response = call.exec()
    except Exception as error:  # as where /dev/shm is full
        _log.error("model %s could not be called: %s", model, error)
        raise RequestError(
            ErrorCode.UNAVAILABLE, f"the model {model} could not be called; the server's log says why"
        ) from error
    if response.has_error():
        message = response.error().message()
        _log.error("model %s: %s", model, message)
        raise _as_told(message) or RequestError(
            ErrorCode.INTERNAL, f"the model {model} failed; the server's log says why"
        )
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def _as_told(message: str) -> RequestError | None:
    """The error of a called model that a caller may be told: its code is lost on the way, unless it is a tag."""
    if (tag := untagged(message)) and tag[0] is ErrorTag.OVERLOADED:
        return RequestError(ErrorCode.OVERLOADED, tag[1])
    unavailable = (GIVEN_UP, str(_STOPPING), str(device_failed()))
    return next((RequestError(ErrorCode.UNAVAILABLE, known) for known in unavailable if known in message), None)
