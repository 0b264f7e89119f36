"""The supervisor over servers that only say that they are one."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import pytest
from eventually import eventually

from tridex.serving.server import supervisor as supervisor_module
from tridex.serving.server.supervisor import Supervisor


class FakeServer:
    """Fails, and is in trouble, when told so."""

    def __init__(self) -> None:
        self.failed: str | None = None
        self.troubled: str | None = None
        self.unwatchable = False
        self.ended = ""

    def failure(self) -> str | None:
        if self.unwatchable:
            raise OSError(24, "Too many open files")
        return self.failed

    def trouble(self) -> str | None:
        return self.troubled

    def stop(self, timeout_s: float) -> None:
        self.ended = f"stopped within {timeout_s}"

    def kill(self) -> None:
        self.ended = "killed"


class Launches:
    """Launches fakes, or raises what is next in `errors`."""

    def __init__(self) -> None:
        self.servers: list[FakeServer] = []
        self.times: list[float] = []
        self.errors: list[Exception] = []
        self.endless = False

    def __call__(self, cancelled: threading.Event) -> FakeServer | None:
        self.times.append(time.monotonic())
        if self.errors:
            raise self.errors.pop()
        if self.endless and cancelled.wait():
            return None
        self.servers.append(FakeServer())
        return self.servers[-1]


@pytest.fixture
def launches() -> Launches:
    return Launches()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def supervisor(launches: Launches, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Supervisor[FakeServer]:
    monkeypatch.setattr(supervisor_module, "_LOOK_S", 0.01)
    return Supervisor(launches, said.append, stop_timeout_s=7.0)


def test_it_stops_what_it_started(supervisor: Supervisor[FakeServer], launches: Launches) -> None:
    supervisor.start()
    assert supervisor.is_ready
    supervisor.stop()
    assert launches.servers[0].ended == "stopped within 7.0"
    assert not supervisor.is_ready


def test_a_first_start_that_fails_raises(supervisor: Supervisor[FakeServer], launches: Launches) -> None:
    launches.errors = [RuntimeError("no encoder")]
    with pytest.raises(RuntimeError, match="no encoder"):
        supervisor.start()
    supervisor.stop()
    assert len(launches.times) == 1


def test_one_that_fails_is_killed_and_replaced(
    supervisor: Supervisor[FakeServer], launches: Launches, said: list[str]
) -> None:
    supervisor.start()
    launches.servers[0].failed = "model maxsim: its process 7 died"
    eventually(lambda: len(launches.servers) == 2 and supervisor.is_ready)
    assert launches.servers[0].ended == "killed"
    assert supervisor.server is launches.servers[1]
    assert said == ["model maxsim: its process 7 died; starting the server again in 1 s", "ready again"]
    supervisor.stop()


def test_one_that_fails_again_and_again_waits_longer_each_time(
    supervisor: Supervisor[FakeServer], launches: Launches, said: list[str]
) -> None:
    supervisor.start()
    launches.errors = [RuntimeError("port taken")]
    launches.servers[0].failed = "died"
    eventually(lambda: len(launches.servers) == 2)
    waited = [later - earlier for earlier, later in zip(launches.times[:-1], launches.times[1:], strict=True)]
    assert waited == [pytest.approx(1, abs=0.5), pytest.approx(2, abs=0.5)]
    assert said[:2] == ["died; starting the server again in 1 s", "port taken; starting the server again in 2 s"]
    supervisor.stop()


def test_one_that_ran_for_long_is_replaced_at_once(
    supervisor: Supervisor[FakeServer], launches: Launches, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_SOON_S", 0.0)
    supervisor.start()
    launches.servers[0].failed = "died"
    eventually(lambda: len(launches.servers) == 2)
    assert said[0] == "died; starting the server again"
    supervisor.stop()


def test_trouble_makes_it_not_ready_until_it_is_over(
    supervisor: Supervisor[FakeServer], launches: Launches, said: list[str]
) -> None:
    supervisor.start()
    launches.servers[0].troubled = "model maxsim: a thread is dead"
    eventually(lambda: not supervisor.is_ready)
    time.sleep(0.1)
    launches.servers[0].troubled = None
    eventually(lambda: supervisor.is_ready)
    assert said == ["not ready: model maxsim: a thread is dead", "ready again"]
    assert len(launches.servers) == 1
    supervisor.stop()


def test_a_watch_that_fails_is_trouble_and_goes_on(
    supervisor: Supervisor[FakeServer], launches: Launches, said: list[str]
) -> None:
    supervisor.start()
    launches.servers[0].unwatchable = True
    eventually(lambda: not supervisor.is_ready)
    launches.servers[0].unwatchable = False
    eventually(lambda: supervisor.is_ready)
    assert "Too many open files" in said[0]
    supervisor.stop()


def test_it_stops_while_it_starts_again(supervisor: Supervisor[FakeServer], launches: Launches) -> None:
    supervisor.start()
    launches.endless = True
    launches.servers[0].failed = "died"
    eventually(lambda: len(launches.times) == 2)
    supervisor.stop()
    assert len(launches.servers) == 1


@pytest.mark.parametrize("endless", [False, True], ids=["while it runs", "while it starts"])
def test_a_signal_that_another_thread_took_ends_the_wait(launches: Launches, endless: bool) -> None:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def take() -> None:
        time.sleep(0.2)  # by then the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    launches.endless = endless
    before = signal.signal(signal.SIGUSR1, interrupt)
    supervisor = Supervisor(launches, lambda _: None, 1.0)
    thread = threading.Thread(target=take)
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.start()
            supervisor.start()
            supervisor.wait()
    finally:
        supervisor.stop()
        signal.signal(signal.SIGUSR1, before)
        thread.join()
