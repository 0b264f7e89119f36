"""Fine-tuning by Sentence Transformers' own trainer, measured on held-out queries before, during and after."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.multi_vector_encoder import (
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
)
from sentence_transformers.multi_vector_encoder.evaluation import MultiVectorInformationRetrievalEvaluator
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .examples import Example, TrainingDataError, hold_out, read_examples
from .model import Tuning, finish, load_model, prepare, projected
from .tracking import parse_trackers, tracking

_MAX_HELD_OUT = 200
"""Most queries measured: they and their documents are encoded at every evaluation."""
_METRIC_PREFIX = "eval_held_out_maxsim_"
"""Of held-out metrics, as the trainer logs them."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a training; they are recorded with it."""

    model: str
    """A ColBERT checkpoint or a plain encoder: a folder or a Hub id."""
    data: tuple[Path, ...]
    """Files of examples. A batch is of one file, so that its negatives are of the query's own kind."""
    output: Path
    """Where the checkpoint goes; must not exist yet."""
    tuning: Tuning = Tuning.FULL
    epochs: float = 1.0
    max_steps: int = -1
    """Ends earlier, unless negative."""
    batch_size: int = 16
    learning_rate: float = 2e-5
    projection_learning_rate: float = 1e-4
    """The projection is new or small, and takes larger steps than the backbone."""
    evaluations: int = 4
    """How often the held-out queries are measured during training."""
    held_out: float = 0.1
    """The share of the queries that is measured on and not trained on."""
    bf16: bool = False
    """Multiplies in bfloat16; weights stay float32. On CPUs that support it a step takes two thirds of the time."""
    seed: int = 0
    track: tuple[str, ...] = ("mlflow",)
    """The experiment trackers, as the transformers library names them; `("none",)` for none."""
    tracking_uri: str = "sqlite:///mlflow.db"
    """MLflow's store or server."""
    experiment: str = "tridex"
    """The trackers' experiment or project."""


@dataclass(frozen=True)
class TrainingResult:
    """Held-out metrics by name (ndcg@10, mrr@10, ...), before and after; None without held-out queries."""

    examples: int
    held_out_queries: int
    before: dict[str, float] | None
    after: dict[str, float] | None
    recorded_by: tuple[str, ...]
    """The trackers that recorded to the end; their run is named as the output is."""


@dataclass
class _Arguments(MultiVectorEncoderTrainingArguments):
    """The trainer's arguments with what the trackers are to record besides: they record every field."""

    model: str = ""
    data: str = ""
    checkpoint: str = ""
    tuning: str = ""
    held_out: float = 0.0
    examples: int = 0


def train(settings: TrainingSettings) -> TrainingResult:
    """Trains, and saves the checkpoint in one step at the end: a failed training leaves nothing.

    In-batch negatives and those of the examples, scores by MaxSim, cross-entropy over them.

    Raises:
        FileExistsError: `settings.output` exists.
        TrainingDataError: The examples are malformed, or too few for a batch.
        TrackingError: A tracker is not known.
        tridex.export.CheckpointError: The model cannot be read.
    """
    if settings.output.exists():
        raise FileExistsError(f"{settings.output} exists already and is not overwritten: choose another folder")
    names = parse_trackers(settings.track)
    examples: dict[str, list[Example]] = {}
    held_out: list[Example] = []
    for path in settings.data:
        examples[str(path)], measured = hold_out(
            read_examples(path), settings.held_out, _MAX_HELD_OUT // len(settings.data), settings.seed
        )
        held_out += measured
        if len(examples[str(path)]) < settings.batch_size:
            raise TrainingDataError(
                f"{path}: {len(examples[str(path)])} examples to train on, without those held out; expected a batch of "
                f"{settings.batch_size} at least"
            )
    total = sum(map(len, examples.values()))
    model = load_model(settings.model)
    prepare(model, settings.tuning)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(prefix=f".{settings.output.name}-", dir=settings.output.parent)
    trackers = tracking(names, settings.experiment, str(settings.output), settings.tracking_uri)
    with scratch as folder, trackers as record:
        trainer = MultiVectorEncoderTrainer(
            model=model,
            args=_arguments(settings, total, folder, bool(held_out), projected(model)),
            train_dataset=DatasetDict({name: _dataset(rows) for name, rows in examples.items()}),
            loss=MultiVectorMultipleNegativesRankingLoss(model),
            evaluator=_evaluator(held_out) if held_out else None,
            callbacks=[_MeasureAtTheEnd(), *record.callbacks] if held_out else record.callbacks,
        )
        trainer.train()
        finish(model)
        staged = Path(folder) / "checkpoint"
        model.save_pretrained(str(staged), create_model_card=False)
        staged.rename(settings.output)
    metrics = _measured(trainer.state)
    before, after = (metrics[0], metrics[-1]) if metrics else (None, None)
    return TrainingResult(total, len({e.query for e in held_out}), before, after, tuple(record.recording))


def _arguments(
    settings: TrainingSettings, examples: int, folder: str, evaluating: bool, projected: bool
) -> MultiVectorEncoderTrainingArguments:
    steps = settings.max_steps if settings.max_steps >= 0 else int(settings.epochs * examples / settings.batch_size)
    every = max(steps // settings.evaluations, 1)
    return _Arguments(
        output_dir=folder,
        run_name=str(settings.output),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        # The parameters of the projections, as the loss names them: model.1.linear.weight.
        learning_rate_mapping={r"^model\.\d+\.linear\.": settings.projection_learning_rate} if projected else {},
        warmup_steps=0.1,
        bf16=settings.bf16,
        use_cpu=not torch.cuda.is_available(),  # otherwise bfloat16 is refused without a GPU
        # A document twice in a batch would be its own query's negative.
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        eval_strategy="steps" if evaluating else "no",
        eval_steps=every,
        eval_on_start=evaluating,
        logging_steps=max(steps // 50, 1),
        save_strategy="no",
        report_to=[],  # The trackers' callbacks are handed over, each guarded.
        seed=settings.seed,
        dataloader_drop_last=True,
        model=settings.model,
        data=", ".join(map(str, settings.data)),
        checkpoint=str(settings.output),
        tuning=settings.tuning.value,
        held_out=settings.held_out,
        examples=examples,
    )


class _MeasureAtTheEnd(TrainerCallback):
    """Has the held-out queries measured after the last step, whatever the steps between evaluations."""

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002  (the callback's signature)
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Called by the trainer."""
        control.should_evaluate |= state.global_step == state.max_steps


def _measured(state: TrainerState) -> list[dict[str, float]]:
    """The held-out metrics of every evaluation (ndcg@10, ...), first to last."""
    evaluations = (
        {name.removeprefix(_METRIC_PREFIX): value for name, value in logged.items() if name.startswith(_METRIC_PREFIX)}
        for logged in state.log_history
    )
    return [metrics for metrics in evaluations if metrics]


def _dataset(examples: list[Example]) -> Dataset:
    columns = {"query": [e.query for e in examples], "positive": [e.positive for e in examples]}
    for i in range(len(examples[0].negatives)):
        columns[f"negative_{i + 1}"] = [e.negatives[i] for e in examples]
    return Dataset.from_dict(columns)


def _evaluator(held_out: list[Example]) -> MultiVectorInformationRetrievalEvaluator:
    """The held-out queries against all of their documents, negatives included."""
    texts = dict.fromkeys(text for e in held_out for text in (e.positive, *e.negatives))
    corpus: dict[str, Any] = {str(i): text for i, text in enumerate(texts)}
    ids = {text: key for key, text in corpus.items()}
    queries: dict[str, Any] = {str(i): query for i, query in enumerate(dict.fromkeys(e.query for e in held_out))}
    relevant: dict[str, set[str]] = {
        key: {ids[e.positive] for e in held_out if e.query == query} for key, query in queries.items()
    }
    return MultiVectorInformationRetrievalEvaluator(queries, corpus, relevant, name="held_out", write_csv=False)
