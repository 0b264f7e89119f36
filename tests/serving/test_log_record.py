"""Records of the log: what processes write is read as what they meant, and written in one form."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import get_args

import pytest
from eventually import eventually

from tridex.serving.log_record import LogFormat, LogRecord, ToLauncher, read_line
from tridex.serving.server.log import open_log


def test_triton_servers_lines_are_read() -> None:
    record = read_line('W1126 12:14:43.313 41 model_lifecycle.cc:472] "loading: \\"search\\":1"')
    assert (record.source, record.level, record.message) == ("tritonserver", "WARNING", 'loading: "search":1')


NESTED = '{"tridex_log": ' + 100_000 * "["
AT = '{"tridex_log": {"source": "search", "message": "m", "at": %s}}'


@pytest.mark.parametrize(
    "line",
    [
        NESTED,
        AT % '"x"',
        AT % "1e300",
        AT % "NaN",
        AT % "-1",
        "free(): invalid pointer",
        "E12 is no record",
        '{"tridex_log": {"cut',
        "",
        "\ufffd",
    ],
)
def test_whatever_else_is_written_is_a_record_by_itself(line: str) -> None:
    record = read_line(line)
    assert (record.message, record.level) == (line, "INFO")
    for form in get_args(LogFormat):
        assert line[:10] in record.formatted(form) or form == "json"


def test_what_python_logs_comes_with_traceback_and_trace_as_one_record() -> None:
    try:
        raise OSError("no\nroom")
    except OSError as error:
        logged = logging.LogRecord("tridex", logging.ERROR, "", 1, "a %s failed", ("request",), (OSError, error, None))
    logged.trace_id = "ab" * 16
    line = ToLauncher("search").format(logged)
    assert "\n" not in line
    record = read_line(line)
    assert (record.source, record.level, record.message) == ("search", "ERROR", "a request failed")
    assert record.details.startswith("OSError: no") and record.trace_id == "ab" * 16
    plain = record.formatted("plain").splitlines()
    assert plain[0].endswith(f"Z ERROR search: a request failed trace_id={'ab' * 16}")
    assert plain[1:] == ["    OSError: no", "    room"]
    as_json = json.loads(record.formatted("json"))
    assert as_json.pop("time").endswith("Z")
    assert as_json == {
        "source": "search",
        "level": "ERROR",
        "message": "a request failed",
        "details": "OSError: no\nroom",
        "trace_id": "ab" * 16,
    }


def test_no_message_makes_a_second_record() -> None:
    message = "CUDA error\n1970-01-01T00:00:00.000Z INFO launcher: forged\n"
    first, *further = LogRecord("search", message, "ERROR").formatted("plain").splitlines()
    assert first.endswith("ERROR search: CUDA error") and further == [f"    {message.splitlines()[1]}"]


def test_what_does_not_apply_is_left_out() -> None:
    given = json.loads(LogRecord("launcher", "ready again", at=1.5).formatted("json"))
    assert given == {
        "time": "1970-01-01T00:00:01.500Z",
        "source": "launcher",
        "level": "INFO",
        "message": "ready again",
    }


def test_a_log_is_rotated_by_size_and_five_older_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log(path, "json", 1000) as log:
        for i in range(100):
            log.write(f"record {i} {'x' * 100}")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["log", *(f"log.{i}" for i in range(1, 6))]
    assert all(file.stat().st_size <= 1000 and file.stat().st_mode & 0o777 == 0o600 for file in files)
    numbers = [
        int(json.loads(line)["message"].split()[1]) for file in files[:1] for line in file.read_text().splitlines()
    ]
    assert numbers[-1] == 99


def test_a_log_that_can_no_longer_be_written_holds_up_nobody() -> None:
    with open_log(Path("/dev/full"), "plain", 1000) as log:
        for _ in range(1000):
            log.write("dropped")


def test_what_is_written_again_and_again_is_counted(tmp_path: Path) -> None:
    with (
        open_log(tmp_path / "log", "plain", 10**8) as log,
        open(log.descriptor, "wb", closefd=False, buffering=0) as pipe,
    ):
        began = time.monotonic()
        for _ in range(5000):
            pipe.write(b"[warn] Error from accept() call: Too many open files\nE1126 01:02:03.4 7 s.cc:1] other\n")
        pipe.write(b"last\n")
        eventually(lambda: "last" in log.path.read_text())
        seconds = time.monotonic() - began
    lines = log.path.read_text().splitlines()
    assert len(lines) < 10 + 10 * seconds
    for said in ("accept() call: Too many open files", "ERROR tritonserver: other"):
        ours = [line for line in lines if said in line]
        assert sum(int(again[1]) if (again := re.search(r"repeated (\d+) times", line)) else 1 for line in ours) == 5000
    assert len([line for line in lines if "last" in line]) == 1


def test_a_cpu_is_not_told_that_there_is_no_gpu(tmp_path: Path) -> None:
    with (
        open_log(tmp_path / "log", "plain", 10**6) as log,
        open(log.descriptor, "wb", closefd=False, buffering=0) as pipe,
    ):
        pipe.write(b'E1126 01:02:03.4 7 s.cc:1] "CudaDriverHelper has not been initialized."\n+----+\n| a |\n')
        pipe.write(b"Error: Failed to initialize NVML\n")
        eventually(lambda: "NVML" in log.path.read_text())
        log.on_gpu = False
        pipe.write(b'W1126 01:02:03.4 7 p.cc:1] "failed to allocate pinned system memory"\nlast\n')
        eventually(lambda: "last" in log.path.read_text())
        assert len(log.path.read_text().splitlines()) == 3
