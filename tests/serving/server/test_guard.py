"""The guard as a library; tests/end_to_end/test_bad_input.py and test_fuzz.py have it in a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tridex.serving.gate import Gate
from tridex.serving.server.guard import GuardError, guard_environment


def built(folder: Path) -> tuple[Gate, dict[str, str]]:
    """The launcher's side of its gate, and the environment that loads it."""
    gate = Gate(folder / "gate")
    return gate, {**os.environ, **guard_environment(folder, folder / "gate", folder / "cancelled")}


def test_files_are_for_their_owner_alone_whatever_mode_they_are_given(tmp_path: Path) -> None:
    _, guarded = built(tmp_path)
    file = tmp_path / "region"
    code = "import os, sys; os.fchmod(os.open(sys.argv[1], os.O_CREAT | os.O_RDWR), 0o664)"
    for environment, mode in ((None, 0o664), (guarded, 0o600)):
        subprocess.run([sys.executable, "-c", code, str(file)], env=environment, check=True)
        assert file.stat().st_mode & 0o777 == mode


def test_it_says_that_it_stands_before_triton_server_and_nothing_else(tmp_path: Path) -> None:
    gate, guarded = built(tmp_path)
    subprocess.run(["true"], env=guarded, check=True)
    assert not gate.is_guarded
    server = tmp_path / "libtritonserver.so"
    source = "int TRITONSERVER_ServerInferAsync(void) { return 0; }"
    subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(server)], input=source.encode(), check=True)
    guarded["LD_PRELOAD"] += f" {server}"
    subprocess.run(["true"], env=guarded, check=True)
    assert gate.is_guarded and not gate.has_given_up


@pytest.mark.parametrize("name", ["a folder", "a:folder"])
def test_a_folder_that_the_loader_takes_no_library_from_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(GuardError, match=r"cannot be loaded from .* cannot be preloaded.*; set TMPDIR to a folder"):
        built(tmp_path / name)
