"""Paths that cannot be used are said in a sentence before anything starts; what servers that were killed left goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from eventually import eventually

from tridex.serving.server.errors import ServerError
from tridex.serving.server.leftovers import own_prefix, prefix_of, remove_leftovers
from tridex.serving.server.log import Log, open_log
from tridex.serving.server.preflight import check_repository, check_store, exposed
from tridex.serving.settings import ServerSettings


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[Path]:
    """A folder, and no right to read or write what its modes forbid, which root has."""
    folder = tmp_path / "own"
    folder.mkdir()
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    before = os.geteuid()
    if before == 0:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    yield folder
    os.seteuid(before)


def test_a_store_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    check_store(tmp_path / "data" / "store")
    assert (tmp_path / "data" / "store").stat().st_mode & 0o777 == 0o700


def test_a_store_keeps_the_modes_it_has(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store").chmod(0o750)  # whatever the umask
    check_store(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o750


def test_a_store_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with pytest.raises(ServerError, match=r"store/?\S* is a file; expected a folder"):
        check_store(tmp_path / "store")
    with pytest.raises(ServerError, match=r"store/below cannot be made: Not a directory; .* --store"):
        check_store(tmp_path / "store" / "below")


def test_a_store_that_cannot_be_written_is_served(unprivileged: Path) -> None:
    (unprivileged / "store").mkdir(mode=0o500)
    check_store(unprivileged / "store")


def test_a_store_that_cannot_be_made_or_read_is_named(unprivileged: Path) -> None:
    (unprivileged / "closed").mkdir(mode=0o000)
    with pytest.raises(ServerError, match="closed cannot be read: Permission denied"):
        check_store(unprivileged / "closed")
    (unprivileged / "fixed").mkdir(mode=0o500)
    with pytest.raises(ServerError, match="fixed/store cannot be made: Permission denied"):
        check_store(unprivileged / "fixed" / "store")
    with pytest.raises(ServerError, match="closed/store cannot be made: Permission denied"):
        check_store(unprivileged / "closed" / "store")


def test_a_repository_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=f"no model repository at {tmp_path}/nothing; .*tridex export"):
        check_repository(tmp_path / "nothing")


def test_a_repository_that_cannot_be_read_is_named(unprivileged: Path) -> None:
    search = unprivileged / "repository" / "search"
    search.mkdir(parents=True)
    (search / "config.pbtxt").touch()
    search.parent.chmod(0o000)
    with pytest.raises(ServerError, match=r"cannot be read: .*repository/search/config\.pbtxt: Permission denied"):
        check_repository(search.parent)
    search.parent.chmod(0o700)


def test_an_encoder_exported_by_another_version_says_to_export_again(repository: Path, tmp_path: Path) -> None:
    check_repository(repository)
    copy = tmp_path / "repository"
    shutil.copytree(repository, copy)
    (code,) = copy.glob("encoder/*/model.py")
    for module in ("tridex.serving.encoder", "tridex.a_room_of_the_future.encoder"):
        code.write_text(f"from {module} import EncoderService\n")
        with pytest.raises(
            ServerError, match=rf"exported by another version .* imports {module}, .*run .*`tridex export` again"
        ):
            check_repository(copy)


@contextlib.contextmanager
def written(path: Path, text: str) -> Iterator[Log]:
    with open_log(path, "plain", 10**6) as log:
        log.write(text)
        yield log


def test_a_log_is_appended_to_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "server.log"
    with written(path, "first start"):
        path.chmod(0o644)
    with written(path, "second start"):
        assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert [line.partition(" INFO launcher: ")[2] for line in lines] == ["first start", "second start"]


def test_a_log_that_was_moved_or_removed_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with open_log(path, "plain", 10**6) as log:
        for spoil in (lambda: path.rename(tmp_path / "moved"), path.unlink):
            log.write("before")
            eventually(path.exists)
            spoil()
        log.write("after")
    assert [line.split()[-1] for line in path.read_text().splitlines()] == ["after"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("given", "risk"),
    [
        ({}, ""),
        ({"host": "127.9.9.9"}, ""),
        ({"host": "0.0.0.0"}, "whoever reaches 0.0.0.0 may search, write and drop collections: --api-key-file "),
        ({"host": "10.0.0.1", "api_key_file": "k"}, "API keys and texts are sent to 10.0.0.1 unencrypted: --tls-cert "),
        ({"host": "10.0.0.1", "api_key_file": "k", "tls_cert": "c", "tls_key": "k"}, ""),
        ({"host": "10.0.0.1", "client_ca": "a", "tls_cert": "c", "tls_key": "k"}, ""),
    ],
)
def test_a_server_that_is_open_to_the_network_says_so(given: dict[str, str], risk: str) -> None:
    told = exposed(ServerSettings(**given))
    assert told.startswith(risk) and bool(told) == bool(risk)


@pytest.fixture
def folder_in_memory() -> Iterator[Path]:
    """In /dev, and no device."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("folder", ["tmp_path", "folder_in_memory"])
def test_a_log_is_one_servers_also_when_it_was_rotated(folder: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(folder) / "log"
    with open_log(path, "plain", 100) as log:
        for _ in range(3):
            log.write("of the first server " + 60 * "x")
            with (
                pytest.raises(ServerError, match=r"another server writes to the log .*/log; choose another by --log"),
                open_log(path, "plain", 100),
            ):
                pass
        assert path.with_name("log.2").exists()
    with written(path, "of the next server"):
        pass
    assert "of the next server" in path.read_text()


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_standard_output_is_shared_and_never_rotated(tmp_path: Path, path: str) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    script = (
        "from pathlib import Path\n"
        "from tridex.serving.server.log import open_log\n"
        f"stdout = Path({str(tmp_path / path)!r})\n"
        "with open_log(stdout, 'plain', 10) as first, open_log(stdout, 'plain', 10) as second:\n"
        "    for text in ('one', 'two', 'three'):\n"
        "        first.write(text), second.write(text)\n"
    )
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True, timeout=60)
    assert [line.split()[-1] for line in (tmp_path / "out").read_text().splitlines()] == [
        text for text in ("one", "two", "three") for _ in range(2)
    ]


def test_the_cause_is_of_this_start_alone(tmp_path: Path) -> None:
    with written(tmp_path / "log", "first start") as log:
        log.on_gpu = False
        os.write(log.descriptor, b'E1126 01:02:03.4 7 model.cc:1] "old trouble"\n')
        eventually(lambda: "old trouble" in log.path.read_text())
        log.mark()
        assert log.cause().startswith("No error was logged.")
        os.write(log.descriptor, b"I1126 01:02:03.4 7 model.cc:1] loading\n+----+\n")
        assert log.cause().startswith("No error was logged.")
        os.write(log.descriptor, b"error while loading shared libraries\n")
        assert log.cause() == f"error while loading shared libraries The log: {tmp_path}/log"
        os.write(
            log.descriptor,
            b'E1126 01:02:03.4 7 s.cc:1] "CudaDriverHelper has not been initialized."\n'
            b'E1126 01:02:03.4 7 m.cc:1] "new trouble of CUDA"\n',
        )
        assert log.cause() == f"new trouble of CUDA The log: {tmp_path}/log"


def test_a_log_that_cannot_be_written_is_named(unprivileged: Path) -> None:
    with (
        pytest.raises(ServerError, match="own is a folder; choose a file by --log"),
        open_log(unprivileged, "plain", 10**6),
    ):
        pass
    (unprivileged / "file").touch()
    with (
        pytest.raises(ServerError, match=r"the log's folder .*/file is a file"),
        open_log(unprivileged / "file" / "log", "plain", 10**6),
    ):
        pass
    (unprivileged / "fixed").mkdir(mode=0o500)
    with (
        pytest.raises(ServerError, match=r"fixed/log cannot be written: Permission denied; .*--log"),
        open_log(unprivileged / "fixed" / "log", "plain", 10**6),
    ):
        pass
    with (
        pytest.raises(ServerError, match=r"fixed/logs/log cannot be written: Permission denied"),
        open_log(unprivileged / "fixed" / "logs" / "log", "plain", 10**6),
    ):
        pass


def test_leftovers_of_processes_that_ended_go() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    region = Path("/dev/shm") / f"{prefix_of(ended.pid)}8001-left"
    region.touch()
    folder = Path(tempfile.gettempdir()) / f"{prefix_of(ended.pid)}left"
    (folder / "run-1").mkdir(parents=True)
    own = Path(tempfile.mkdtemp(prefix=own_prefix()))
    other = Path(tempfile.mkdtemp(prefix="tridex-cases-"))
    # Of another container, whose process of that id may live.
    others = Path("/dev/shm") / f"tridex-ns1-{ended.pid}-8001-left"
    others.touch()
    remove_leftovers()
    assert (region.exists(), folder.exists(), own.exists(), other.exists()) == (False, False, True, True)
    assert others.exists()
    own.rmdir()
    other.rmdir()
    others.unlink()


@pytest.mark.parametrize("owner", ["9" * 20, "1", "\N{SUPERSCRIPT TWO}"])
def test_what_names_no_process_that_has_ended_stays(owner: str) -> None:
    left = Path("/dev/shm") / f"{prefix_of(owner)}8001-left"
    left.touch()
    remove_leftovers()
    assert left.exists()
    left.unlink()
