"""Settings: flags before environment before file, each bad value named, one table in the docs."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from typer.testing import CliRunner

from tridex.serving.cli.serve import serve
from tridex.serving.server import TritonServer
from tridex.serving.settings import InvalidSettingError, ModelSettings, ServerSettings, environment
from tridex.serving.settings_table import settings_table

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("TRIDEX_"):
            monkeypatch.delenv(name)


def test_flags_go_before_the_environment_and_that_before_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "server.env"
    file.write_text("# of the file\nTRIDEX_GRPC_PORT=1\nTRIDEX_HTTP_PORT=2\nTRIDEX_METRICS_PORT=3\n")
    monkeypatch.setenv("TRIDEX_GRPC_PORT", "4")
    monkeypatch.setenv("TRIDEX_HTTP_PORT", "5")
    settings = ServerSettings.load({"grpc_port": 6}, file)
    assert (settings.grpc_port, settings.http_port, settings.metrics_port) == (6, 5, 3)
    assert settings.store == Path(".tridex/store") and settings.http_inference is False


def test_models_read_what_the_server_passes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(store=Path("/data"), memory_budget=2**40, recall_sample_rate=None).items():
        monkeypatch.setenv(name, value)
    settings = ModelSettings.load()
    assert (settings.store, settings.memory_budget, settings.recall_sample_rate) == (Path("/data"), 2**40, 0.01)


@pytest.mark.parametrize("store", [None, ""])
def test_models_without_a_store_are_refused(monkeypatch: pytest.MonkeyPatch, store: str | None) -> None:
    if store is not None:
        monkeypatch.setenv("TRIDEX_STORE", store)
    with pytest.raises(InvalidSettingError, match="TRIDEX_STORE is not set; expected a folder: The folder that holds"):
        ModelSettings.load()


@pytest.mark.parametrize(
    ("given", "size"),
    [("20GB", 20 * 10**9), ("512MiB", 512 * 2**20), ("1.5 gb", 15 * 10**8), ("1000", 1000), ("2T", 2 * 10**12)],
)
def test_sizes(given: str, size: int) -> None:
    assert ServerSettings.load({"memory_budget": given}).memory_budget == size


@pytest.mark.parametrize("given", ["", "GB", "-1GB", "20 potatoes", "0", "1e9"])
def test_no_sizes(given: str) -> None:
    with pytest.raises(InvalidSettingError, match=f"--memory-budget is '{given}'; expected a number of bytes, as 20GB"):
        ServerSettings.load({"memory_budget": given})


def test_what_is_no_device_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="--device is 'gpu'; expected cpu, cuda, cuda:N or auto"):
        ServerSettings.load({"device": "gpu"})


@pytest.mark.parametrize("rate", ["half", "-0.1", "nan", "2"])
def test_a_bad_sample_rate_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, rate: str) -> None:
    monkeypatch.setenv("TRIDEX_STORE", "/data")
    monkeypatch.setenv("TRIDEX_RECALL_SAMPLE_RATE", rate)
    with pytest.raises(
        InvalidSettingError, match=f"TRIDEX_RECALL_SAMPLE_RATE is '{rate}'; expected a number from 0 to 1"
    ):
        ModelSettings.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"TRIDEX_GRPC_PORT=eight", "TRIDEX_GRPC_PORT is 'eight'; expected a port, 1 to 65535"),
        (
            b"TRIDEX_GRPC_PORTS=8",
            "the settings file has TRIDEX_GRPC_PORTS, which is no setting; expected one of: TRI",
        ),
        (b"\xff", "--settings is '.*server.env'; expected a file of lines TRIDEX_NAME=value .*utf-8"),
        (None, "--settings is '.*server.env'; expected a file of lines TRIDEX_NAME=value .*No such file"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "server.env"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSettingError, match=message):
        ServerSettings.load(file=file)


def test_flags_and_server_have_every_setting() -> None:
    flags = inspect.signature(serve, eval_str=True).parameters
    options = inspect.signature(TritonServer).parameters
    assert set(flags) - {"context", "settings", "as_json"} == set(ServerSettings.model_fields) <= set(options)
    for name, setting in ServerSettings.model_fields.items():
        _, option = get_args(flags[name].annotation)
        assert (option.help, flags[name].default) == (setting.description, setting.default)
        default: Any = options[name].default
        assert default in (inspect.Parameter.empty, None, setting.default)


def test_the_command_takes_flags_before_the_environment_and_no_default_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = typer.Typer()
    app.command()(serve)

    def refused(*flags: str) -> str:
        result = CliRunner().invoke(app, flags)
        assert result.exit_code == 1
        return result.stderr

    assert "there is no model repository at" in refused("--repository", str(tmp_path / "flag"))
    monkeypatch.setenv("TRIDEX_REPOSITORY", str(tmp_path / "variable"))
    assert f"at {tmp_path}/variable;" in refused()
    assert f"at {tmp_path}/flag;" in refused("--repository", str(tmp_path / "flag"))
    bad = CliRunner().invoke(app, ("--memory-budget", "potatoes"))
    assert bad.exit_code == 2 and "--memory-budget is 'potatoes'; expected a number of bytes" in bad.stderr


def test_the_docs_have_the_table_of_settings() -> None:
    assert settings_table() in REFERENCE.read_text()
