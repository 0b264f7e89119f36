"""What models' processes report, what they are told, and that they end with their parent."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually

from tridex.serving.backend import canary
from tridex.serving.backend import reporter as reporter_module
from tridex.serving.backend.answers import Answers
from tridex.serving.backend.reporter import Reporter
from tridex.serving.run_folder import Report, RunFolder, Silence


class Service:
    """As far as a reporter knows one."""

    def __init__(self) -> None:
        self.wrong: str | None = None
        self.answers_wrongly = False
        self.asked = 0
        self.closed = 0

    def trouble(self) -> str | None:
        return self.wrong

    def check(self) -> None:
        self.asked += 1
        if self.answers_wrongly:
            raise RuntimeError("no answer")

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture
def reporter(run: RunFolder) -> Iterator[Reporter]:
    reporter = Reporter("ingest", "ingest_0_0", run.folder, Answers())
    reporter.service = Service()
    yield reporter
    reporter.close()


def refuses(reporter: Reporter) -> bool:
    admitted = reporter.admit(1)
    if admitted:
        reporter.answered()
    return not admitted


def only(run: RunFolder) -> Report:
    eventually(lambda: len(run.reports()) == 1)
    return run.reports()[0]


def test_a_report_holds_what_is_in_flight_and_what_is_wrong(run: RunFolder, reporter: Reporter) -> None:
    assert reporter.admit(3)
    reporter.answered()
    eventually(lambda: only(run).in_flight == 2)
    assert only(run).trouble is None
    reporter.service.wrong = "the thread that follows the store is dead " + 1000 * "ü"
    eventually(lambda: only(run).trouble is not None)
    assert only(run).trouble.startswith("the thread that follows the store is dead")
    assert time.monotonic() - only(run).at_s < 5
    assert (run.folder.stat().st_mode & 0o777, *{p.stat().st_mode & 0o777 for p in run.folder.iterdir()}) == (
        0o700,
        0o600,
    )


def test_a_model_that_does_not_come_back_from_its_requests_is_stuck(
    run: RunFolder, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter_module, "_STUCK_S", 0.2)
    with reporter.executing():
        eventually(lambda: only(run).stuck)
        assert only(run).trouble == only(run).stuck and "it has been at the same requests for" in only(run).stuck
    eventually(lambda: not only(run).stuck and not only(run).trouble)


def test_a_canary_is_asked_from_when_all_models_are_ready_until_the_server_stops(
    run: RunFolder, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "_EVERY_S", 0.02)
    service = reporter.service
    assert only(run).phase == "starting" and reporter.admit(1)
    reporter.answered()
    time.sleep(0.3)
    assert service.asked == 0
    run.serve()
    eventually(lambda: service.asked > 3)
    assert only(run).trouble is only(run).failure is None
    service.answers_wrongly = True
    eventually(lambda: only(run).failure == only(run).trouble == "its canary was answered wrongly: no answer")
    run.drain()
    eventually(lambda: refuses(reporter))
    asked = service.asked
    time.sleep(0.2)
    assert service.asked <= asked + 1


def test_draining_refuses_what_is_new_and_waits_for_what_is_under_way(run: RunFolder, reporter: Reporter) -> None:
    reporter.admit(1)
    only(run)
    run.drain()
    eventually(lambda: refuses(reporter))
    time.sleep(0.3)
    assert not run.idle()
    reporter.answered()
    eventually(run.idle)
    assert reporter.service.closed == 0


def test_an_internal_model_answers_until_services_close(run: RunFolder) -> None:
    encoder = Reporter("encoder", "encoder_0", run.folder, Answers())
    encoder.service = service = Service()
    encoder.admit(1)
    only(run)
    run.drain()
    time.sleep(0.3)
    assert not run.idle()
    assert encoder.admit(1)
    run.close_services()
    eventually(run.closed)
    assert not encoder.admit(1)
    encoder.close()
    assert service.closed == 1


def test_a_run_folder_that_was_tidied_up_still_stops_models(run: RunFolder, reporter: Reporter) -> None:
    only(run)
    (run.folder / "starting").unlink()
    assert reporter.admit(1)
    run.drain()
    eventually(lambda: refuses(reporter))


def test_a_reporter_survives_what_it_asks(run: RunFolder, reporter: Reporter, caplog: pytest.LogCaptureFixture) -> None:
    service, reporter.service = reporter.service, None
    only(run)

    def fails() -> str | None:
        raise RuntimeError("not today")

    service.trouble = fails
    reporter.service = service
    eventually(lambda: "could not report" in caplog.text)
    failing = run.reports()[0].at_s
    time.sleep(0.7)
    assert run.reports()[0].at_s == failing
    service.trouble = lambda: None
    eventually(lambda: run.reports()[0].at_s > failing)
    assert caplog.text.count("could not report") == 1


def test_silence_counts_only_while_somebody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    silence = Silence()
    for _ in range(60):
        now[0] += 1
        silence.look()
    assert silence.since(1000) == 60
    now[0] += 500
    silence.look()
    assert silence.since(1000) == 0
    now[0] += 1
    silence.look()
    assert silence.since(1000) == 1
    assert silence.since(now[0]) == 0


MODEL = """
import os, sys, time
from tridex.serving.backend.answers import Answers
from tridex.serving.backend.reporter import Reporter
Reporter("maxsim", "maxsim_0", None, Answers())
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_model_process_ends_when_its_parent_is_gone() -> None:
    parent = subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", sys.executable, "-c", MODEL], stdout=subprocess.PIPE)
    model = int(parent.stdout.readline())
    time.sleep(0.7)
    assert alive(model)
    parent.kill()
    parent.wait()
    eventually(lambda: not alive(model))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
