"""Whether a Gluon kernel serves: what is made of a child that agrees, disagrees, crashes or hangs, and what is kept.

The children here are small programs in place of the probe, which needs a GPU.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from maxsim_data import documents

from tridex.kernels import Codec, pack
from tridex.kernels.gpu import backend
from tridex.kernels.gpu.gluon import verdict
from tridex.kernels.gpu.gluon.roles import BATCHES, SINGLE_QUERIES, one_warp_of, roles_of

CPU = torch.device("cpu")
SEGMENT = pack(documents([3], 128), Codec.FLOAT16)

AGREES = "print('ready'); print('agrees')"
DISAGREES = "print('ready'); print('DisagreementError: other results'); raise SystemExit(1)"
CRASHES = "import os, signal; print('ready', flush=True); os.kill(os.getpid(), signal.SIGKILL)"
CRASHES_AS_IT_ENDS = "import os; print('ready'); print('agrees', flush=True); os._exit(3)"
DOES_NOT_COMPARE = "print('agrees')"
IS_MUTE = ""
FINDS_NO_MEMORY = "print('OutOfMemoryError: CUDA out of memory'); raise SystemExit(1)"
IS_SLOW = "import pathlib, time; print('ready', flush=True); pathlib.Path({!r}).touch(); time.sleep(600)"
HANGS = IS_SLOW.replace("'ready'", "'ready\\nlaunched'")


class Children:
    """Sets what the next child runs, and counts those that were asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.program, self.asked = AGREES, 0
        self.executable = sys.executable
        monkeypatch.setattr(verdict, "_command", self._command)

    def _command(self, *_of_what: Any) -> list[str]:
        self.asked += 1
        return [self.executable, "-I", "-S", "-c", self.program]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Children:
    """Of a device whose kernel cache is empty."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(verdict, "_described", lambda _device: ["NVIDIA H200", 132, "580.159", (13, 0)])
    monkeypatch.setattr(verdict, "_chosen", set())
    return Children(monkeypatch)


def chosen(load: Callable[[], object] = lambda: None) -> bool:
    """Chooses anew, as after a restart."""
    verdict._chosen.clear()
    verdict.choose(BATCHES, SEGMENT, load)
    return verdict.is_chosen(BATCHES, CPU, Codec.FLOAT16)


def kept(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("cache/*/*.json"))


def test_a_kernel_that_agrees_serves_its_codec_alone(
    children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loads: list[int] = []
    with caplog.at_level(logging.INFO):
        assert chosen(lambda: loads.append(1))
    assert not verdict.is_chosen(BATCHES, CPU, Codec.INT8)
    assert not verdict.is_chosen(SINGLE_QUERIES, CPU, Codec.FLOAT16)
    assert loads == [1]
    [line] = caplog.messages
    assert line.startswith("the Gluon kernel serves batches in float16 on cpu")
    assert str(kept(tmp_path)[0]) in line
    assert chosen() and children.asked == 1, "a restart asked again"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (DISAGREES, "DisagreementError: other results"),
        (CRASHES, "its probe was ended by SIGKILL"),
        (CRASHES_AS_IT_ENDS, "its probe ended with status 3"),
    ],
)
def test_a_kernel_that_fails_is_not_used_and_not_tried_again(
    program: str, reason: str, children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children.program = program
    for _start in range(2):
        caplog.clear()
        assert not chosen(lambda: pytest.fail("it ran in the process that serves"))
        [file] = kept(tmp_path)
        assert caplog.messages == [
            f"the plain kernel serves batches in float16 on cpu: {reason}; delete {file} to have it tried again"
        ]
    assert children.asked == 1
    file.unlink()
    children.program = AGREES
    assert chosen()


@pytest.mark.parametrize(("program", "asked"), [(HANGS, 1), (IS_SLOW, 2)])
def test_a_kernel_that_hangs_is_not_used_and_its_child_is_ended(
    program: str,
    asked: int,
    children: Children,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that was still being compiled may have time enough at the next start; one that ran is not tried again."""
    began = tmp_path / "began"
    started: list[int] = []

    class OutOfTime(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            """The limit of time passes once the child hangs, however long it took to come to that."""
            if timeout != verdict.LONGEST_S:
                return super().wait(timeout)
            while not began.exists():
                time.sleep(0.01)
            started.append(self.pid)
            raise subprocess.TimeoutExpired(self.args, timeout)

    monkeypatch.setattr(subprocess, "Popen", OutOfTime)
    children.program = program.format(str(began))
    assert not chosen()
    assert "its probe did not end within 90 s;" in caplog.text
    assert len(kept(tmp_path)) == (program == HANGS)
    assert not psutil.pid_exists(started[0])
    assert not chosen() and children.asked == asked


def test_few_children_run_at_the_same_time(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    most: list[int] = []

    def ask(*_: object) -> tuple[verdict.Verdict, bool]:
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return verdict.Verdict(agrees=False, reason=""), False

    monkeypatch.setattr(verdict, "ask_child", ask)
    with ThreadPoolExecutor(11) as together:
        for done in [together.submit(verdict.choose, BATCHES, SEGMENT, lambda: None) for _ in range(11)]:
            done.result()
    assert children.asked == len(most) == 11
    assert max(most) <= verdict.AT_ONCE


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (FINDS_NO_MEMORY, "OutOfMemoryError: CUDA out of memory"),
        (IS_MUTE, "its probe ended with status 0"),
        (DOES_NOT_COMPARE, "its probe ended with status 0"),
    ],
)
def test_what_goes_wrong_before_the_kernel_runs_is_no_verdict(
    program: str, reason: str, children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children.program = program
    assert not chosen()
    assert caplog.messages == [
        f"the plain kernel serves batches in float16 on cpu: {reason}; the next start tries it again"
    ]
    assert not kept(tmp_path)
    children.program = AGREES
    assert chosen()


def test_a_child_that_cannot_be_started_is_no_verdict(
    children: Children, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    children.executable = str(tmp_path / "python")
    assert not chosen()
    assert len(caplog.messages) == 1 and "FileNotFoundError" in caplog.text
    assert not kept(tmp_path)


def test_a_kernel_that_cannot_be_loaded_here_is_not_used(children: Children, caplog: pytest.LogCaptureFixture) -> None:
    def load() -> None:
        raise RuntimeError("out of resource: shared memory\nRequired: 1")

    assert not chosen(load)
    assert "RuntimeError: out of resource: shared memory; the next start tries it again" in caplog.text
    assert children.asked == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'{"agrees": true}',
        b'{"agrees": "no", "reason": ""}',
        b'{"agrees": true, "reason": null}',
    ],
)
def test_a_damaged_verdict_is_none(content: bytes, children: Children, tmp_path: Path) -> None:
    assert chosen()
    [file] = kept(tmp_path)
    file.write_bytes(content)
    children.program = DISAGREES
    assert not chosen()
    assert json.loads(file.read_bytes()) == {"agrees": False, "reason": "DisagreementError: other results"}


def test_a_verdict_is_one_of_a_device_and_its_driver(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen()
    for here in (["NVIDIA H100", 132, "580.159", (13, 0)], ["NVIDIA H200", 132, "590.44", (13, 1)]):
        monkeypatch.setattr(verdict, "_described", lambda _device, here=here: here)
        assert chosen()
    assert children.asked == 3


@pytest.mark.parametrize(("program", "serves"), [(AGREES, True), (DISAGREES, False), (CRASHES, False)])
def test_a_search_is_by_the_kernel_that_was_chosen(
    program: str, serves: bool, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    by: list[Any] = []
    monkeypatch.setattr(backend, "search_by", lambda kernel, *_: by.append(kernel))
    monkeypatch.setattr(backend, "rescore_by", lambda kernel, *_: by.append(kernel))
    children.program = program
    assert chosen() == serves
    backend.search(torch.ones((8, 32, 128)), None, SEGMENT, 1, None)
    backend.search(torch.ones((1, 32, 128)), None, SEGMENT, 1, None)
    assert by == [roles_of(Codec.FLOAT16, 128, 90) if serves else None, None]
    verdict.choose(SINGLE_QUERIES, SEGMENT, lambda: None)
    backend.search(torch.ones((1, 32, 128)), None, SEGMENT, 1, None)
    backend.rescore(torch.ones((1, 32, 128)), None, SEGMENT, torch.zeros((1, 1), dtype=torch.int64))
    assert by[2:] == 2 * [one_warp_of(Codec.FLOAT16, 128, 90) if serves else None]


def test_the_probe_says_what_it_lacks_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child itself: it starts, and a machine without a GPU is no fault of the kernel's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found, is_the_kernels = verdict.ask_child(verdict._command(BATCHES, CPU, Codec.FLOAT16, 128), 600.0)
    assert not found.agrees and not is_the_kernels
    assert "driver" in found.reason
