"""What the Python backend hands over, faked: a request that cannot be read fails alone, and nobody is told too much."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from tridex.serving.access.access import Access
from tridex.serving.access.key_file import Right, add_key
from tridex.serving.backend.answers import Answers
from tridex.serving.backend.background import LoggedErrors
from tridex.serving.backend.reporter import Reporter
from tridex.serving.backend.service import Arrays, Context, ErrorCode, Request, RequestError, Result, device_failed
from tridex.serving.cancelled_calls import CancelledCalls
from tridex.serving.gate import GIVEN_UP


class Error:
    """pb_utils.TritonError"""

    INVALID_ARG, INTERNAL, UNAVAILABLE = "INVALID_ARG", "INTERNAL", "UNAVAILABLE"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class Sent:
    """pb_utils.InferenceRequest, which keeps what it was answered with."""

    def __init__(self, parameters: Callable[[], str]) -> None:
        self.parameters = parameters
        self.cancelled = False
        self.answers: list[Any] = []
        self.answered_by: threading.Thread | None = None
        self.may_be_answered: Callable[[], object] = bool

    def inputs(self) -> list[Any]:
        return []

    def timeout(self) -> int:
        return 0

    def is_cancelled(self) -> bool:
        return self.cancelled

    def requested_output_names(self) -> list[str]:
        return ["ECHO"]

    def get_response_sender(self) -> Any:
        return SimpleNamespace(send=self._take)

    def _take(self, response: Any, **_: Any) -> None:
        self.may_be_answered()
        self.answers.append(response)
        self.answered_by = threading.current_thread()

    @property
    def error(self) -> Error | None:
        """Of the one answer."""
        (answer,) = self.answers
        return answer.error


class Echo:
    """Answers with each request's `value`; fails all of a batch where one asks for it."""

    def __init__(self, *_: Any) -> None:
        pass

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        if any(request.parameters.get("fail") for request in requests):
            raise OSError("[Errno 5] /srv/tridex/store/_versions/3.manifest")
        return [{"ECHO": np.array([request.parameters["value"]])} for request in requests]


class Later:
    """Answers when it is told to."""

    def __init__(self, *_: Any) -> None:
        self.results: list[Future[Arrays | RequestError]] = []

    def answer(self, requests: Sequence[Request]) -> Sequence[Result]:
        self.results += [Future() for _ in requests]
        return self.results[-len(requests) :]

    def make(self, *values: int) -> None:
        """The next answers."""
        for value in values:
            self.results.pop(0).set_result({"ECHO": np.array([value])})

    def close(self) -> None:
        pass


@pytest.fixture
def backend() -> ModuleType:
    """pb_utils"""
    backend = ModuleType("triton_python_backend_utils")
    backend.__dict__.update(
        TritonError=Error,
        Tensor=lambda name, value: (name, value),
        InferenceResponse=lambda output_tensors=(), error=None: SimpleNamespace(tensors=output_tensors, error=error),
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
        TRITONSERVER_MEMORY_CPU=0,
        PreferredMemory=lambda kind: f"memory of kind {kind}",
    )
    return backend


@pytest.fixture
def python_backend(backend: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, backend.__name__, backend)
    monkeypatch.setenv("TRIDEX_STORE", "/srv/tridex/store")
    monkeypatch.delitem(sys.modules, "tridex.serving.backend.python_backend", raising=False)
    module = importlib.import_module("tridex.serving.backend.python_backend")
    monkeypatch.delitem(sys.modules, "tridex.serving.backend.python_backend")
    return module


@pytest.fixture
def model(python_backend: ModuleType) -> Iterator[Any]:
    made = python_backend.python_model(Echo)()
    made._service = Echo()
    made._recorder = None
    made._model, made._access = "search", Access(None)
    made._cancelled_calls = CancelledCalls(None)
    made._answers = Answers()
    made._errors = LoggedErrors()
    made._reporter = Reporter("search", "search_0", None, made._answers)
    made._metrics_file = None
    yield made
    made.finalize()


class NeedsNoGpu(Echo):
    NICENESS = 0
    contexts: ClassVar[list[Context]] = []

    def __init__(self, context: Context) -> None:
        self.contexts.append(context)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("told", "asked"), [("cuda:0", []), ("cuda", ["0"]), (None, ["0"])])
def test_the_gpu_is_hidden_from_a_model_that_needs_none(
    python_backend: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str | None, asked: list[str]
) -> None:
    """Before anything asks the driver, which looks at the variable once; not where nobody has said what there is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("TRIDEX_MEMORY_BUDGET", "1GB")
    if told:
        monkeypatch.setenv("TRIDEX_DEVICE", told)
    seen: list[str] = []

    def resolve(_name: str) -> str:
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return "cuda:0"

    monkeypatch.setattr(python_backend, "resolve_device", resolve)
    monkeypatch.setattr(python_backend.gc, "freeze", lambda: None)
    model = python_backend.python_model(NeedsNoGpu)()
    about = {"model_name": "ingest", "model_instance_name": "ingest_0", "model_repository": str(tmp_path)}
    model.initialize({**about, "model_instance_kind": "CPU", "model_instance_device_id": "0"})
    model.finalize()
    context = NeedsNoGpu.contexts.pop()
    assert (context.device, context.server_device, context.memory_budget) == ("cpu", "cuda:0", 10**9)
    assert seen == asked and os.environ["CUDA_VISIBLE_DEVICES"] == ""


def good(value: int, **more: Any) -> Sent:
    return Sent(lambda: json.dumps({"value": value, **more}))


def not_utf8() -> str:
    return b'{"value": "\xff"}'.decode()


@pytest.mark.parametrize("parameters", [not_utf8, lambda: "{", lambda: "[" * 100_000], ids=["UTF-8", "JSON", "nested"])
def test_parameters_that_cannot_be_read_fail_their_own_request(model: Any, parameters: Callable[[], str]) -> None:
    batch = [good(1), Sent(parameters), good(2)]
    model.execute(batch)
    assert [request.error for request in (batch[0], batch[2])] == [None, None]
    assert [request.answers[0].tensors[0][1].tolist() for request in (batch[0], batch[2])] == [[1], [2]]
    assert batch[1].error is not None and batch[1].error.code == Error.INVALID_ARG
    assert "the parameters are no valid UTF-8 or JSON" in batch[1].error.message


def test_a_call_that_was_cancelled_before_it_began_is_not_begun(model: Any) -> None:
    batch = [good(1, fail=True), good(2)]
    batch[0].cancelled = True
    model.execute(batch)
    assert batch[0].error is not None and batch[0].error.message.startswith("DEADLINE_EXCEEDED: ")
    assert batch[1].error is None


@pytest.mark.parametrize(
    ("told", "code", "message"),
    [
        ("OVERLOADED: 9 requests are before this one", ErrorCode.OVERLOADED, "9 requests are before this one"),
        (f"in a call, {GIVEN_UP}", ErrorCode.UNAVAILABLE, GIVEN_UP),
        ("the server is stopping", ErrorCode.UNAVAILABLE, "the server is stopping"),
        (str(device_failed()), ErrorCode.UNAVAILABLE, str(device_failed())),
        ("onnx runtime error 6: /srv", ErrorCode.INTERNAL, "the model encoder failed; the server's log says why"),
        (None, ErrorCode.UNAVAILABLE, "the model encoder could not be called; the server's log says why"),
    ],
)
def test_what_a_called_model_refuses_keeps_its_kind(
    python_backend: ModuleType, backend: Any, told: str | None, code: ErrorCode, message: str
) -> None:
    def called() -> Any:
        if told is None:
            raise RuntimeError("Failed to increase the shared memory pool size: No space left on device")
        return SimpleNamespace(has_error=lambda: True, error=lambda: SimpleNamespace(message=lambda: told))

    backend.InferenceRequest = lambda **_: SimpleNamespace(exec=called)
    with pytest.raises(RequestError) as raised:
        python_backend._infer("encoder", {}, [])
    assert (raised.value.code.value, str(raised.value)) == (code.value, message)


def test_what_a_called_model_answers_lies_on_the_host(python_backend: ModuleType, backend: Any) -> None:
    """Where its own backend would leave it on a GPU, this process sees none."""
    tensor = SimpleNamespace(name=lambda: "EMBEDDINGS", as_numpy=lambda: 5)
    answer = SimpleNamespace(has_error=lambda: False, output_tensors=lambda: [tensor])
    asked: list[dict[str, Any]] = []
    backend.InferenceRequest = lambda **said: asked.append(said) or SimpleNamespace(exec=lambda: answer)
    assert python_backend._infer("encoder", {"IDS": 1}, ["EMBEDDINGS"]) == {"EMBEDDINGS": 5}
    assert [said["preferred_memory"] for said in asked] == ["memory of kind 0"]


def test_what_nobody_expected_says_neither_path_nor_trace(model: Any) -> None:
    batch = [good(1), good(2, fail=True)]
    model.execute(batch)
    for request in batch:
        assert request.error is not None
        assert request.error.message == "internal error (OSError); the server's log says more"


def test_a_request_without_its_key_fails_alone_and_no_service_sees_a_key(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    key = add_key(file, "reader", [Right.READ], ["*"])
    model._access = Access(file)
    seen: list[Request] = []
    model._service = SimpleNamespace(answer=lambda requests: seen.extend(requests) or Echo().answer(requests))
    batch = [good(1), good(2, Authorization=f"Bearer {key}"), good(3, authorization="Bearer tridex_other")]
    model.execute(batch)
    assert [request.error and request.error.message for request in batch] == [
        "UNAUTHENTICATED: expected an API key: the header authorization: Bearer KEY",
        None,
        "UNAUTHENTICATED: the API key is not known",
    ]
    assert [request.parameters for request in seen] == [{"value": 2}]


@pytest.mark.parametrize(("on_gpu", "count"), [(True, 1), (False, 1), (False, 3)])
def test_a_lone_answer_leaves_at_once_and_on_a_cpu_any(model: Any, on_gpu: bool, count: int) -> None:
    if not on_gpu:
        model._answers = None
    model._service = later = Later()
    batch = [good(i) for i in range(count)]
    model.execute(batch)
    later.make(*range(count))
    assert {request.answered_by for request in batch} == {threading.current_thread()}
    assert model._reporter.in_flight == 0


def test_whoever_made_several_answers_does_not_wait_until_they_have_left(model: Any) -> None:
    """The first is held up until the last is made; all have left before the model is closed."""
    model._service = later = Later()
    all_are_made, order = threading.Event(), list[int]()
    batch = [good(i) for i in range(4)]
    for i, request in enumerate(batch):
        request.may_be_answered = lambda i=i: (all_are_made.wait(60), order.append(i))
    model._reporter.service = later
    model.execute(batch)
    later.make(0, 1, 2, 3)
    assert model._reporter.in_flight == 4
    all_are_made.set()
    model.finalize()
    assert order == [0, 1, 2, 3] and model._reporter.in_flight == 0
    assert [request.answers[0].tensors[0][1].tolist() for request in batch] == [[0], [1], [2], [3]]


def test_what_is_refused_as_a_service_closes_is_told_so_first(model: Any) -> None:
    model._service = later = Later()

    def refuse() -> None:
        for result in later.results:
            result.set_result(RequestError(ErrorCode.UNAVAILABLE, "the server is stopping"))

    later.close = refuse
    model._reporter.service = later
    batch = [good(1), good(2)]
    model.execute(batch)
    model.finalize()
    assert [request.error and request.error.message for request in batch] == ["the server is stopping"] * 2


def test_an_answer_that_cannot_be_sent_costs_no_other(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not even the error that takes its place can; nor is it waited for when the server stops."""
    model._service = later = Later()
    batch = [good(1), good(2), good(3)]

    def fail() -> None:
        raise RuntimeError("Failed to increase the shared memory pool size: No space left on device")

    batch[1].may_be_answered = fail
    model._reporter.service = later
    model.execute(batch)
    later.make(1, 2, 3)
    model.finalize()
    assert [len(request.answers) for request in batch] == [1, 0, 1]
    assert model._reporter.in_flight == 0
    assert "an answer could not be sent" in caplog.text


def test_answers_that_cannot_be_sent_are_logged_once_until_one_is_sent(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model._answers = None
    lost = [True, True, True, False, True]

    def send(fails: bool) -> None:
        if fails:
            raise RuntimeError("Failed to increase the shared memory pool size: No space left on device")

    for fails in lost:
        request = good(1)
        request.may_be_answered = lambda fails=fails: send(fails)
        model.execute([request])
    logged = [record.message for record in caplog.records if "could not be sent (RuntimeError" in record.message]
    assert len(logged) == 2, logged
