"""What is said to torch when work is recorded, and when it cannot be. Real graphs are for tests/gpu."""

from __future__ import annotations

import pytest
import torch

from tridex.common.cuda_graphs import record

POOL = (0, 7)


class Torch:
    """In place of torch's graphs and its allocator: what they are told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failure: str | None = None) -> None:
        self.told: list[object] = []
        self._failure = failure
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: POOL)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        for forget in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            monkeypatch.setattr(torch._C, forget, lambda *told, name=forget: self.told.append((name, *told)))

    def capture_begin(self, pool: object, capture_error_mode: str) -> None:
        self.told.append(("begin", pool, capture_error_mode))

    def capture_end(self) -> None:
        self.told.append("end")
        if self._failure:
            raise RuntimeError(self._failure)


GIVEN_UP = [("_cuda_endAllocateToPool", 1, POOL), ("_cuda_releasePool", 1, POOL)]


def test_other_threads_go_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Torch(monkeypatch)

    def work() -> int:
        asked.told.append("work")
        return 5

    graph, result = record(work)
    assert graph is asked and result == 5
    assert asked.told == [("begin", POOL, "thread_local"), "work", "end"]


def test_work_that_fails_ends_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Torch(monkeypatch, "operation failed due to a previous error during capture")

    def work() -> None:
        raise ValueError("cudaMalloc")

    with pytest.raises(RuntimeError, match=r"^cannot be recorded: cudaMalloc$"):
        record(work)
    assert asked.told[1:] == ["end", *GIVEN_UP]


def test_a_capture_that_fails_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Torch(monkeypatch, "capturing stream has unjoined work")
    with pytest.raises(RuntimeError, match="unjoined work"):
        record(lambda: None)
    assert asked.told[1:] == ["end", *GIVEN_UP]
