"""Fine-tuning by Sentence Transformers' own trainer, measured on held-out queries before, during and after."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.sampler import BatchSamplers
from sentence_transformers.multi_vector_encoder import (
    MultiVectorEncoderTrainer,
    MultiVectorEncoderTrainingArguments,
)
from sentence_transformers.multi_vector_encoder.evaluation import MultiVectorInformationRetrievalEvaluator
from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss

from .examples import Example, TrainingDataError, hold_out, read_examples
from .model import Tuning, finish, load_model, prepare, projected
from .tracking import MlflowRecord, check_wandb, wandb_run

_MAX_HELD_OUT = 200
"""Most queries measured: they and their documents are encoded at every evaluation."""


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
    tracking_uri: str = "sqlite:///mlflow.db"
    experiment: str = "tridex"
    wandb: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """Held-out metrics by name (ndcg@10, mrr@10, ...), before and after; None without held-out queries."""

    examples: int
    held_out_queries: int
    before: dict[str, float] | None
    after: dict[str, float] | None
    mlflow_run: str | None


def train(settings: TrainingSettings) -> TrainingResult:
    """Trains, and saves the checkpoint in one step at the end: a failed training leaves nothing.

    In-batch negatives and those of the examples, scores by MaxSim, cross-entropy over them.

    Raises:
        FileExistsError: `settings.output` exists.
        TrainingDataError: The examples are malformed, or too few for a batch.
        TrackingError: Weights & Biases was asked for and is not installed.
        tridex.export.CheckpointError: The model cannot be read.
    """
    if settings.output.exists():
        raise FileExistsError(f"{settings.output} exists already and is not overwritten: choose another folder")
    if settings.wandb:
        check_wandb()
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
    parameters = {
        **asdict(settings),
        "data": ", ".join(map(str, settings.data)),
        "output": str(settings.output),
        "tuning": settings.tuning.value,
        "examples": total,
    }
    record = MlflowRecord(settings.tracking_uri, settings.experiment, parameters)
    other_record = wandb_run(settings.experiment, parameters) if settings.wandb else nullcontext(list[str]())
    evaluator = _evaluator(held_out) if held_out else None
    before = _measure(model, evaluator)
    record.log({f"held_out_{name}": value for name, value in (before or {}).items()}, 0)
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    scratch = tempfile.TemporaryDirectory(prefix=f".{settings.output.name}-", dir=settings.output.parent)
    with scratch as folder, other_record as report_to:
        trainer = MultiVectorEncoderTrainer(
            model=model,
            args=_arguments(settings, total, folder, evaluator is not None, projected(model), report_to),
            train_dataset=DatasetDict({name: _dataset(rows) for name, rows in examples.items()}),
            loss=MultiVectorMultipleNegativesRankingLoss(model),
            evaluator=evaluator,
            callbacks=[record],
        )
        trainer.train()
        finish(model)
        after = _measure(model, evaluator)
        record.log({f"held_out_{name}": value for name, value in (after or {}).items()}, trainer.state.global_step)
        staged = Path(folder) / "checkpoint"
        model.save_pretrained(str(staged), create_model_card=False)
        staged.rename(settings.output)
    return TrainingResult(total, len({e.query for e in held_out}), before, after, record.end())


def _arguments(
    settings: TrainingSettings, examples: int, folder: str, evaluating: bool, projected: bool, report_to: list[str]
) -> MultiVectorEncoderTrainingArguments:
    steps = settings.max_steps if settings.max_steps >= 0 else int(settings.epochs * examples / settings.batch_size)
    every = max(steps // settings.evaluations, 1)
    return MultiVectorEncoderTrainingArguments(
        output_dir=folder,
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
        logging_steps=max(steps // 50, 1),
        save_strategy="no",
        report_to=report_to,
        seed=settings.seed,
        dataloader_drop_last=True,
    )


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


def _measure(
    model: MultiVectorEncoder, evaluator: MultiVectorInformationRetrievalEvaluator | None
) -> dict[str, float] | None:
    if evaluator is None:
        return None
    metrics: Mapping[str, Any] = evaluator(model)
    # held_out_maxsim_ndcg@10 to ndcg@10.
    return {name.split("_", 3)[-1]: float(value) for name, value in metrics.items()}
