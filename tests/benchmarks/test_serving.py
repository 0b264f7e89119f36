"""The serving benchmark: errors that would make a figure silently wrong, or hide that it is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import perf_analyzer, serving, trace
from tridex.serving.metrics.stages import SEARCH_STAGES, StageTotal

TRACE = [
    {"id": 1, "model_name": "search", "model_version": 1},
    {"id": 1, "timestamps": [{"name": "GRPC_WAITREAD_START", "ns": 0}]},
    {"id": 1, "timestamps": [{"name": "GRPC_WAITREAD_END", "ns": 30_000_000}]},
    {"id": 1, "timestamps": [{"name": "COMPUTE_INPUT_END", "ns": 30_500_000}]},
    {"id": 2, "model_name": "ingest", "model_version": 1},
    {"id": 2, "timestamps": [{"name": "GRPC_SEND_END", "ns": 45_000_000}]},
    {"id": 1, "timestamps": [{"name": "COMPUTE_OUTPUT_START", "ns": 30_700_000}]},
    {"id": 1, "timestamps": [{"name": "INFER_RESPONSE_COMPLETE", "ns": 50_000_000}]},
    {"id": 1, "timestamps": [{"name": "GRPC_SEND_END", "ns": 50_250_000}]},
    {"id": 3, "model_name": "search", "model_version": 1},
    {"id": 3, "timestamps": [{"name": "GRPC_WAITREAD_END", "ns": 60_000_000}]},
]


def test_a_trace_says_what_triton_spends_around_the_model(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    for i, events in enumerate((TRACE[:4], TRACE[4:])):
        (tmp_path / f"trace.json.{i}").write_text(json.dumps(events))
    (traced,) = trace.read(file, "search")
    assert traced == trace.TracedRequest(total_ms=20.25, before_ms=0.5, after_ms=0.25)
    stages = {name: {"ms": float(i)} for i, name in enumerate(SEARCH_STAGES)}
    added = serving.overhead([traced], stages, {"encode_ms": 2.0, "score_ms": 3.0})
    assert added["beyond_encoding_and_scoring_ms"] == 20.25 - 2 - 3 - 4
    assert added["in_one_process_ms"] == 5


REFUSAL = "OVERLOADED: 10 requests wait for a search, some 2.5 s; expected at most 2.0 s, as this one says no timeout"


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (f"Thread [0] had error: {REFUSAL}", perf_analyzer.RefusedError, REFUSAL),
        ("Thread [0] had error: collection 'c' is not there", RuntimeError, "status 99.*is not there"),
        ("no such binary", RuntimeError, "status 99.*no such binary"),
    ],
)
def test_a_load_that_is_refused_says_so(tmp_path: Path, output: str, error: type[Exception], message: str) -> None:
    binary = tmp_path / "perf_analyzer"
    binary.write_text(f"#!/bin/sh\necho Request concurrency: 16\ncat >&2 <<'END'\n{output}\n\nEND\nexit 99\n")
    binary.chmod(0o755)
    with pytest.raises(error, match=f"(?s){message}") as raised:
        perf_analyzer.run(binary, "localhost:1", "search", [{"QUERY": ["x"]}], {}, 16, 1.0, tmp_path)
    assert type(raised.value) is error


def test_the_tables_show_what_was_refused() -> None:
    total = StageTotal(seconds=3.0, requests=30.0, batches=12.0)
    stages = {name: serving.stage(StageTotal(3.0, 30.0) if name == "wait" else total) for name in SEARCH_STAGES}
    load = {"requests_per_s": 41.0, "p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 3.0}
    good = {"codec": "int8", "concurrency": 1, "with_text": False, **load, "stages": stages}
    bad = {"codec": "int8", "concurrency": 16, "with_text": False, "refused": REFUSAL}
    head, _, first, second = serving.loads_table([good, bad]).splitlines()
    assert first == "| int8 | 1 | no | 41.0 | 1.0 | 2.0 | 3.0 |"
    assert second == f"| int8 | 16 | no | refused: {REFUSAL} | - | - | - |"
    assert head.count("|") == first.count("|") == second.count("|")
    head, _, first = serving.stages_table([good, bad]).splitlines()
    assert first == "| int8 | 1 | no |" + " 100.0 |" * len(SEARCH_STAGES) + " 2.5 |"
    assert head.count("|") == first.count("|")
