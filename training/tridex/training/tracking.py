"""Records a training in MLflow, and in Weights & Biases if asked to.

If a tracking server is down, the record is lost and the training continues.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tridex.common import TridexError

_log = logging.getLogger(__name__)


class TrackingError(TridexError):
    """A requested tracker is not installed. The message names the command that installs it."""


def check_wandb() -> None:
    """Raises TrackingError if Weights & Biases is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise TrackingError("Weights & Biases was asked for and is not installed: pip install 'tridex[wandb]'")


@contextmanager
def wandb_run(project: str, parameters: Mapping[str, Any]) -> Iterator[list[str]]:
    """A run for the trainer's `report_to`, which is empty if the run cannot be started."""
    import wandb

    try:
        run = wandb.init(project=project, config=dict(parameters))
    except wandb.Error as error:
        _warn("Weights & Biases", error)
        yield []
        return
    with run:
        yield ["wandb"]


def _warn(tracker: str, error: Exception) -> None:
    reason = str(error).partition("\n")[0]
    _log.warning("%s could not be reached: training continues without a record (%s)", tracker, reason)


class MlflowRecord(TrainerCallback):
    """One MLflow run: parameters at the start, losses and held-out metrics as they come."""

    def __init__(self, uri: str, experiment: str, parameters: Mapping[str, Any]) -> None:
        # Otherwise MLflow retries for minutes while the training waits.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        from mlflow import MlflowClient

        self._run_id: str | None = None
        try:
            self._client = MlflowClient(uri)
            known = self._client.get_experiment_by_name(experiment)
            experiment_id = known.experiment_id if known else self._client.create_experiment(experiment)
            self._run_id = self._client.create_run(experiment_id).info.run_id
            for name, value in parameters.items():
                self._client.log_param(self._run_id, name, value)
        except Exception as error:  # whatever goes wrong with a remote server
            self._give_up(error)

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002  (the callback's signature)
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Called by the trainer."""
        self.log(logs or {}, state.global_step)

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Records the numbers among `values`."""
        if self._run_id is None:
            return
        try:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self._client.log_metric(self._run_id, name.replace("@", "_at_"), value, step=step)
        except Exception as error:
            self._give_up(error)

    def end(self) -> str | None:
        """Closes the run; returns its id, or None if it was not recorded to the end."""
        if self._run_id is not None:
            try:
                self._client.set_terminated(self._run_id)
            except Exception as error:
                self._give_up(error)
        return self._run_id

    def _give_up(self, error: Exception) -> None:
        self._run_id = None
        _warn("MLflow", error)
