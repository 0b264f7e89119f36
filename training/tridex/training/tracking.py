"""Records a training with the experiment trackers that the trainer integrates, several at once.

A tracker that fails, at its start or later, is left out from then on, and the training continues.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, WandbCallback, default_logdir

from tridex.common import TridexError

_log = logging.getLogger(__name__)

NONE = "none"
"""In place of trackers: no record."""

_EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]
_PROJECT_VARIABLES = (
    "MLFLOW_EXPERIMENT_NAME",
    "WANDB_PROJECT",
    "CLEARML_PROJECT",
    "COMET_PROJECT_NAME",
    "SWANLAB_PROJECT",
    "TRACKIO_PROJECT",
)


class TrackingError(TridexError):
    """A tracker that the trainer does not know. The message names those that it knows."""


def parse_trackers(names: Sequence[str]) -> tuple[str, ...]:
    """Each tracker once, none for `none`. Raises TrackingError."""
    for name in names:
        if name not in INTEGRATION_TO_CALLBACK and list(names) != [NONE]:
            raise TrackingError(
                f"tracker {name!r} is not known; expected {NONE} alone, or one or more of "
                f"{', '.join(sorted(INTEGRATION_TO_CALLBACK))}"
            )
    return tuple(dict.fromkeys(name for name in names if name != NONE))


class Trackers:
    """The trainer's callbacks of several trackers, each guarded."""

    def __init__(self, names: Sequence[str], mlflow_uri: str) -> None:
        self.recording = list(names)
        """Those that have not failed."""
        self.callbacks: list[TrainerCallback] = []
        for name in names:
            try:
                self.callbacks.append(self._guarded(name, _create(name, mlflow_uri)))
            except Exception as error:  # not installed, or broken
                self._leave_out(name, error)

    def _guarded(self, name: str, callback: TrainerCallback) -> TrainerCallback:
        for event in _EVENTS:
            setattr(callback, event, partial(self._call, name, getattr(callback, event)))
        return callback

    def _call(self, name: str, event: Any, *arguments: Any, **named: Any) -> None:
        if name not in self.recording:
            return
        try:
            event(*arguments, **named)
        except Exception as error:  # whatever goes wrong with a remote server
            self._leave_out(name, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        self.recording.remove(name)
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        _log.warning("%s cannot record: training continues without it (%s)", name, reason)


@contextmanager
def tracking(names: Sequence[str], project: str, run: str, mlflow_uri: str) -> Iterator[Trackers]:
    """The trackers, while the environment says to them what they take from nowhere else.

    Args:
        names: Of `parse_trackers`.
        project: The experiment or project that each records in.
        run: What ClearML calls the run; others take `run_name` of the trainer's arguments.
        mlflow_uri: MLflow's store or server.
    """
    variables = {
        **dict.fromkeys(_PROJECT_VARIABLES, project),
        "CLEARML_TASK": run,
        # Otherwise in the trainer's folder, which is removed.
        "TENSORBOARD_LOGGING_DIR": os.environ.get("TENSORBOARD_LOGGING_DIR", default_logdir()),
        # Otherwise MLflow retries for minutes while the training waits.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": os.environ.get("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        "MLFLOW_HTTP_REQUEST_TIMEOUT": os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", "5"),
    }
    with _environment(variables):
        yield Trackers(names, mlflow_uri)


class _WandbCallback(WandbCallback):
    """Closes its run, which would otherwise take in a next training of the process."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def on_train_end(self, *arguments: Any, **named: Any) -> None:
        """Called by the trainer."""
        super().on_train_end(*arguments, **named)
        self._wandb.finish()


def _create(name: str, mlflow_uri: str) -> TrainerCallback:
    if name == "wandb":
        return _WandbCallback()
    if name == "clearml":
        _check_clearml_answers()
    if name == "mlflow":
        import mlflow

        mlflow.set_tracking_uri(mlflow_uri)  # The environment's counts only where none was set in the process.
    callback: TrainerCallback = INTEGRATION_TO_CALLBACK[name]()
    return callback


def _check_clearml_answers() -> None:
    """Otherwise ClearML tries 240 times to reach its server, while the training waits."""
    if importlib.util.find_spec("clearml") is None:
        return
    from clearml import Task
    from clearml.backend_api import Session

    if not Task.is_offline():
        with suppress(HTTPError):  # It answers.
            urlopen(Session.get_api_server_host(), timeout=5).close()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
