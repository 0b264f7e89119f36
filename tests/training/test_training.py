"""A few real steps on tiny checkpoints: the result is exported, recorded, and a bad file is refused with its row."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import wandb
from checkpoints import make
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Run
from sentence_transformers import MultiVectorEncoder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from typer.testing import CliRunner

from tridex.client.cli import create_app
from tridex.export import CheckpointError, export_checkpoint
from tridex.training.examples import Example, TrainingDataError, hold_out, read_examples
from tridex.training.model import Tuning
from tridex.training.tracking import Trackers, parse_trackers
from tridex.training.trainer import TrainingSettings, train

WORDS = ["late", "interaction", "keeps", "one", "embedding", "token", "capital", "directory", "custard", "sugar"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoint"), "stanford_attended")


@pytest.fixture(scope="module")
def triplets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries are two words of their document."""
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "triplets.jsonl"
    rows = []
    for i in range(40):
        positive, negative = (" ".join(rng.sample(WORDS, 6)) for _ in range(2))
        rows.append({"query": f"{' '.join(positive.split()[:2])} {i}", "positive": positive, "negative": negative})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def settings(checkpoint: Path, triplets: Path, folder: Path, **options: Any) -> TrainingSettings:
    return TrainingSettings(
        str(checkpoint),
        (triplets,),
        folder / "trained",
        **{"max_steps": 3, "batch_size": 8, "held_out": 0.25, "tracking_uri": f"sqlite:///{folder}/mlflow.db"}
        | options,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(MultiVectorEncoder(str(folder), device="cpu").state_dict())


def the_mlflow_run(folder: Path) -> tuple[mlflow.MlflowClient, Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tridex")
    assert experiment
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


@pytest.mark.parametrize("tuning", list(Tuning))
def test_what_is_trained_moves_and_is_exported(
    tuning: Tuning, checkpoint: Path, triplets: Path, tmp_path: Path
) -> None:
    result = train(settings(checkpoint, triplets, tmp_path, tuning=tuning, learning_rate=1e-2))
    before, after = weights(checkpoint), weights(tmp_path / "trained")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    backbone = {name for name in moved if name.startswith("0.")}
    assert "1.linear.weight" in moved and bool(backbone) == (tuning is not Tuning.PROJECTION)
    if tuning is Tuning.LORA:
        assert all(before[name].ndim == 2 for name in backbone)
    # The parity gate compares with Sentence Transformers.
    export_checkpoint(str(tmp_path / "trained"), repository=tmp_path / "repository", precision="fp32")

    assert result.recorded_by == ("mlflow",)
    client, run = the_mlflow_run(tmp_path)
    assert run.info.run_name == str(tmp_path / "trained")
    assert run.info.status == "FINISHED" and run.data.params["tuning"] == tuning.value
    assert result.before and result.after and result.held_out_queries == 10
    history = client.get_metric_history(run.info.run_id, "eval_held_out_maxsim_ndcg_10")
    assert [metric.step for metric in history] == [0, 1, 2, 3]
    assert (history[0].value, history[-1].value) == (result.before["ndcg@10"], result.after["ndcg@10"])
    assert client.get_metric_history(run.info.run_id, "loss")
    assert not list(tmp_path.glob(".trained*"))


def test_a_plain_encoder_gets_a_projection(checkpoint: Path, triplets: Path, tmp_path: Path) -> None:
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    model[0].model.save_pretrained(tmp_path / "encoder")
    model.tokenizer.save_pretrained(tmp_path / "encoder")
    result = CliRunner().invoke(
        create_app(),
        ["train", str(tmp_path / "encoder"), str(triplets), "--output", str(tmp_path / "trained"), "--max-steps", "1",
         "--batch-size", "4", "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "held-out queries" in result.output and f"Next: tridex export {tmp_path}/trained" in result.output
    assert weights(tmp_path / "trained")["1.linear.weight"].shape[1] == 32


class Recorder(TrainerCallback):
    """A tracker of these tests."""

    events: ClassVar[list[str]]

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.events.append("begin")

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.events += [name for name in logs if name == "loss" or name.endswith("ndcg@10")]

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.events.append("end")


def test_a_tracker_that_fails_is_left_out(
    checkpoint: Path, triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Sound(Recorder):
        events: ClassVar[list[str]] = []

    class Halfway(Recorder):
        events: ClassVar[list[str]] = []

        def on_log(self, *arguments: Any, **named: Any) -> None:
            super().on_log(*arguments, **named)
            raise ConnectionError("the server went away\nand more of it")

    class Down(Recorder):
        events: ClassVar[list[str]] = []

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            raise TimeoutError

    class Broken(Recorder):
        events: ClassVar[list[str]] = []

        def __init__(self) -> None:
            raise ImportError("libsomething.so is missing")

    for name, callback in {"azure_ml": Halfway, "neptune": Down, "flyte": Broken, "swanlab": Sound}.items():
        monkeypatch.setitem(INTEGRATION_TO_CALLBACK, name, callback)
    monkeypatch.setitem(sys.modules, "clearml", None)
    track = ("azure_ml", "neptune", "clearml", "flyte", "swanlab")
    result = train(settings(checkpoint, triplets, tmp_path, max_steps=1, track=track))
    assert result.recorded_by == ("swanlab",) and weights(tmp_path / "trained")
    assert (Halfway.events, Down.events, Broken.events) == (["begin", "eval_held_out_maxsim_ndcg@10"], [], [])
    assert Sound.events == ["begin", "eval_held_out_maxsim_ndcg@10", "loss", "eval_held_out_maxsim_ndcg@10", "end"]
    assert [record.getMessage() for record in caplog.records if record.name == "tridex.training.tracking"] == [
        "clearml cannot record: training continues without it (ClearMLCallback requires 'clearml' to be installed. Run "
        "`pip install clearml`.)",
        "flyte cannot record: training continues without it (libsomething.so is missing)",
        "neptune cannot record: training continues without it (TimeoutError)",
        "azure_ml cannot record: training continues without it (the server went away)",
    ]


@pytest.mark.parametrize("track", ["mlfow", "mlflow,none", "", "mlflow,,wandb"])
def test_an_unknown_tracker_is_refused(track: str, triplets: Path, tmp_path: Path) -> None:
    output = tmp_path / "trained"
    result = CliRunner().invoke(
        create_app(), ["train", "default", str(triplets), "--track", track, "--output", str(output)]
    )
    assert result.exit_code == 1 and not output.exists()
    assert "is not known; expected none alone, or one or more of azure_ml, clearml, codecarbon," in result.stderr


def test_trackers_in_any_order_and_once() -> None:
    assert parse_trackers(["wandb", "mlflow", "wandb"]) == ("wandb", "mlflow")
    assert parse_trackers(["none"]) == ()


def test_tensorboard_records_beside_mlflow(
    checkpoint: Path, triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environment = dict(os.environ)
    result = train(settings(checkpoint, triplets, tmp_path, track=("tensorboard", "mlflow")))
    assert result.recorded_by == ("tensorboard", "mlflow") and the_mlflow_run(tmp_path)
    (folder,) = tmp_path.glob("runs/*")
    recorded = EventAccumulator(str(folder)).Reload()
    assert [scalar.step for scalar in recorded.Scalars("train/loss")] == [1, 2, 3]
    assert recorded.Scalars("eval/held_out_maxsim_ndcg@10")[-1].value == pytest.approx((result.after or {})["ndcg@10"])
    assert os.environ.get("TENSORBOARD_LOGGING_DIR") == environment.get("TENSORBOARD_LOGGING_DIR")


@pytest.fixture
def clearml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Gives ClearML, of which a stand-in has what is asked before a training, another server."""

    def served_by(host: str, *, offline: bool = False) -> None:
        monkeypatch.setattr(module.Task, "is_offline", staticmethod(lambda: offline))
        monkeypatch.setattr(module.backend_api.Session, "get_api_server_host", staticmethod(lambda: host))

    package = tmp_path / "standing-in" / "clearml"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class Task: is_offline = None\n")
    (package / "backend_api.py").write_text("class Session: get_api_server_host = None\n")
    for name in [name for name in sys.modules if name.partition(".")[0] == "clearml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    module = importlib.import_module("clearml")
    importlib.import_module("clearml.backend_api")
    yield served_by
    for name in ("clearml", "clearml.backend_api"):
        sys.modules.pop(name)


def test_training_goes_on_without_a_tracking_server(
    checkpoint: Path,
    triplets: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    clearml: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody = "http://127.0.0.1:9"
    clearml(nobody)
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "clearml", Recorder)  # It would be tried for minutes.
    track = ("mlflow", "clearml")
    result = train(settings(checkpoint, triplets, tmp_path, max_steps=1, tracking_uri=nobody, held_out=0, track=track))
    assert not result.recorded_by
    for name in track:
        assert f"{name} cannot record: training continues without it" in caplog.text
    assert result.before is None and weights(tmp_path / "trained")


def test_clearml_records_where_its_server_answers_or_none_is_needed(
    clearml: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "clearml", Recorder)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # Which answers 501.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        clearml(f"http://127.0.0.1:{server.server_port}")
        assert Trackers(["clearml"], "").recording == ["clearml"]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    clearml("http://127.0.0.1:9", offline=True)
    assert Trackers(["clearml"], "").recording == ["clearml"]
    clearml("http://127.0.0.1:9")
    assert Trackers(["clearml"], "").recording == []


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    yield
    wandb.teardown()  # It reads its settings once per process.


def written(record: Path) -> bytes:
    """What Weights & Biases wrote: its file is LevelDB's log behind 7 bytes, and its blocks cut names in two."""
    stored, joined, place, block = record.read_bytes(), b"", 7, 1 << 15
    while place + 7 <= len(stored):
        left = block - place % block
        if left < 7:
            place += left
            continue
        length = int.from_bytes(stored[place + 4 : place + 6], "little")
        joined += stored[place + 7 : place + 7 + length]
        place += 7 + length
    return joined


@pytest.mark.usefixtures("wandb_folder")
def test_weights_and_biases_gets_a_record_too(
    checkpoint: Path, triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(settings(checkpoint, triplets, tmp_path, track=("wandb",)))
    (record,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    recorded = written(record)
    assert all(
        name in recorded for name in (b"train/loss", b"held_out_maxsim_ndcg@10", b"learning_rate_mapping", b"tuning")
    )


@pytest.mark.usefixtures("wandb_folder")
def test_training_goes_on_without_weights_and_biases(
    checkpoint: Path, triplets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "not a key")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
    result = train(settings(checkpoint, triplets, tmp_path, max_steps=1, track=("wandb", "mlflow")))
    assert "wandb cannot record: training continues without it" in caplog.text
    assert result.recorded_by == ("mlflow",) and weights(tmp_path / "trained")


def test_nothing_is_overwritten(checkpoint: Path, triplets: Path, tmp_path: Path) -> None:
    (tmp_path / "trained").mkdir()
    with pytest.raises(FileExistsError, match="exists already and is not overwritten"):
        train(settings(checkpoint, triplets, tmp_path))
    assert not list((tmp_path / "trained").iterdir())


def test_without_a_projection_there_is_none_to_train(triplets: Path, tmp_path: Path) -> None:
    plain = make(tmp_path / "plain", "native_plain")
    with pytest.raises(CheckpointError, match="no projection that could be trained alone"):
        train(settings(plain, triplets, tmp_path, tuning=Tuning.PROJECTION))
    assert train(settings(plain, triplets, tmp_path, max_steps=1)).after


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "rows.jsonl, line 2: expected JSON"),
        ("[" * 100_000, "rows.jsonl, line 2: expected JSON"),
        ("[]", "rows.jsonl, line 2: expected an object"),
        ('{"query": "q"}', "rows.jsonl, line 2: positive is None"),
        ('{"query": " ", "positive": "p"}', "rows.jsonl, line 2: query is ' '"),
        ('\n{"query": "q", "positive": "p", "negative": ""}', "rows.jsonl, line 3: negative is ''"),
        ('{"query": "q", "positive": "p", "negatives": "n"}', "rows.jsonl, line 2: negatives is 'n'; expected a list"),
        ('{"query": "q", "positive": "p", "negatives": ["a", "b"]}', "rows.jsonl, line 2: 2 negatives; expected 1"),
        ('{"query": "q", "positive": "\\ud800"}', "rows.jsonl, line 2: positive is '\\ud800'; expected valid Unicode"),
        (f'{{"query": "{"x" * 300_000}", "positive": "p"}}', "line 2: query is 'xxx.*, 300000 bytes; expected 1 to"),
        ("\udcff", "rows.jsonl, line 2: expected JSON in UTF-8"),
    ],
)
def test_bad_rows_are_named(row: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = '{"query": "q", "positive": "p", "negative": "n"}\n'
    path.write_bytes(good.encode() + row.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(TrainingDataError, match=message.replace("[", r"\[").replace("\\", r"\\")) as refused:
        read_examples(path)
    assert len(str(refused.value)) < 400


def test_corrupt_files_name_the_place(triplets: Path, tmp_path: Path) -> None:
    whole = gzip.compress(triplets.read_bytes())
    for content, message in (
        (b"plain", "after line 0: expected a whole gzip file"),
        (whole[:-9], "after line 40: expected a whole gzip file"),
        (whole[:-8] + bytes(8), r"after line 40: expected a whole gzip file \(CRC"),
    ):
        (tmp_path / "rows.jsonl.gz").write_bytes(content)
        with pytest.raises(TrainingDataError, match=rf"rows\.jsonl\.gz, {message}"):
            read_examples(tmp_path / "rows.jsonl.gz")
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(TrainingDataError, match=r"rows\.parquet, after row 0: expected a whole Parquet file"):
        read_examples(tmp_path / "rows.parquet")
    result = CliRunner().invoke(create_app(), ["train", "default", str(tmp_path / "rows.parquet")])
    assert result.exit_code == 1 and result.stderr.startswith(f"tridex: {tmp_path}/rows.parquet, after row 0")


def test_parquet_is_read_as_json_lines_are(triplets: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in triplets.read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert read_examples(tmp_path / "rows.parquet") == read_examples(triplets)
    with pytest.raises(TrainingDataError, match="expected a file that ends with"):
        read_examples(tmp_path / "rows.csv")


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1), st.floats(0, 0.9), st.integers(0, 5), st.integers(0, 9))
def test_no_query_is_trained_on_and_measured(queries: list[str], share: float, limit: int, seed: int) -> None:
    examples = [Example(query, str(i), ()) for i, query in enumerate(queries)]
    kept, held = hold_out(examples, share, limit, seed)
    assert sorted(kept + held) == sorted(examples)
    assert not {e.query for e in kept} & {e.query for e in held}
    assert len({e.query for e in held}) <= limit
