"""Fetches and runs perf_analyzer, Triton server's load generator.

PyPI has it only inside older wheels of tritonclient; 2.51.0 is the last one whose binary runs on glibc before 2.38.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tridex.protocol.error_tags import untagged

WHEEL = "tritonclient==2.51.0"
_BINARY = "tritonclient-2.51.0.data/data/bin/perf_analyzer"
# What the binary is linked against; the embedded server's wheel has the libraries under other names.
_LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}


class RefusedError(RuntimeError):
    """The server refused a request; the message is the server's. perf_analyzer then stops without figures."""


@dataclass(frozen=True)
class Load:
    """One measurement: latencies are milliseconds seen by the client."""

    concurrency: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


def fetch(folder: Path) -> Path:
    """The binary, downloaded into `folder` on first use, with the libraries it needs linked beside it."""
    binary = folder / "perf_analyzer"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # pip's own platform choice would take a newer, pure wheel that has no binary.
        download = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), WHEEL]
        subprocess.run([sys.executable, "-m", "pip", *download], check=True)
        with zipfile.ZipFile(next(folder.glob("tritonclient-2.51.0-*manylinux*.whl"))) as wheel:
            binary.write_bytes(wheel.read(_BINARY))
        binary.chmod(0o755)
    for name, pattern in _LIBRARIES.items():
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(next(_embedded_libraries().glob(pattern)))
    return binary


def run(
    binary: Path,
    address: str,
    model: str,
    inputs: Sequence[dict[str, list[str]]],
    parameters: dict[str, str | int | bool],
    concurrency: int,
    seconds: float,
    work_dir: Path,
    headers: Sequence[str] = (),
) -> Load:
    """Sends requests from `concurrency` clients in windows of `seconds`, three at most, until they agree.

    `headers` are NAME:VALUE.

    Windows of time and not of requests, because perf_analyzer rounds the duration of a window of requests to seconds.

    Raises:
        RefusedError: The server refused a request.
        RuntimeError: perf_analyzer failed; the message is its output.
    """
    data, report = work_dir / "perf_input.json", work_dir / "perf_report.csv"
    data.write_text(json.dumps({"data": list(inputs)}))
    report.unlink(missing_ok=True)
    command = [
        *(str(binary), "-m", model, "-u", address, "-i", "grpc", "--input-data", str(data)),
        *(word for header in headers for word in ("-H", header)),
        *(f"--request-parameter={name}:{_parameter(value)}" for name, value in parameters.items()),
        *("--concurrency-range", str(concurrency), "--measurement-interval", str(int(1000 * seconds))),
        # When it finds a run unstable it reports nothing at all.
        *("--stability-percentage", "999", "--max-trials", "3", "--percentile", "50"),
        *("-f", str(report), "--verbose-csv"),
    ]
    libraries = os.pathsep.join((str(binary.parent), str(_embedded_libraries())))
    done = subprocess.run(
        command, env={**os.environ, "LD_LIBRARY_PATH": libraries}, capture_output=True, text=True, check=False
    )
    output = done.stdout + done.stderr
    refusal = next(filter(untagged, re.findall(r"^Thread \[\d+\] had error: (.*)", output, re.MULTILINE)), None)
    if refusal:
        raise RefusedError(refusal)
    if done.returncode or not report.exists():
        raise RuntimeError(f"perf_analyzer failed with status {done.returncode}:\n{output}")
    with report.open() as file:
        row = next(csv.DictReader(file))
    return Load(
        concurrency=concurrency,
        requests_per_s=float(row["Inferences/Second"]),
        **{f"p{p}_ms": float(row[f"p{p} latency"]) / 1000 for p in (50, 95, 99)},
    )


def launcher_header() -> str:
    """What opens to perf_analyzer the model's configuration, which is closed to clients: the key is on the command line
    of the server that this process started."""
    option = "--grpc-restricted-protocol="
    arguments = (word for child in psutil.Process().children(recursive=True) for word in child.cmdline())
    closed = next(word for word in arguments if word.startswith(option))
    name, _, key = closed.rpartition(":")[2].partition("=")
    return f"triton-grpc-protocol-{name}:{key}"


def _parameter(value: str | int | bool) -> str:
    """VALUE:TYPE as the command line takes it."""
    if isinstance(value, bool):
        return f"{str(value).lower()}:bool"
    return f"{value}:{'int' if isinstance(value, int) else 'string'}"


def _embedded_libraries() -> Path:
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("perf_analyzer needs libraries of the embedded server: pip install 'tridex[embedded]'")
    return Path(next(iter(spec.submodule_search_locations))).parent / "nvidia_pytriton.libs"
