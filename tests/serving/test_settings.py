"""Settings: flags before environment before file, each bad value named, one table in the docs."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import get_args

import pytest
import tomllib
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tridex.serving.cli.serve import serve
from tridex.serving.settings import InvalidSettingError, ModelSettings, ServerSettings, environment, misspelt
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
    file = tmp_path / "server.toml"
    file.write_text("# of the file\ngrpc_port = 1\nhttp_port = 2\nmetrics_port = 3\n")
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
        (b"grpc_port = 'eight'", r"grpc_port in .*server\.toml is 'eight'; expected a port, 1 to 65535"),
        (b"[store]\na = 1", r"store in .*server\.toml is \{'a': 1\}; expected a folder"),
        (b"grpc_ports = 8", r"server\.toml has grpc_ports, which is no setting; expected one of: store, "),
        (b"\xff", r"--config is '.*server\.toml'; expected a TOML file of settings .*utf-8"),
        (b"grpc_port", r"--config is '.*server\.toml'; expected a TOML file of settings .*Expected '='"),
        (None, r"--config is '.*server\.toml'; expected a TOML file of settings .*No such file"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "server.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidSettingError, match=message):
        ServerSettings.load(file=file)


def test_there_is_a_flag_for_every_setting() -> None:
    flags = inspect.signature(serve, eval_str=True).parameters
    assert set(flags) - {"context", "config", "print_config", "as_json"} == set(ServerSettings.model_fields)
    for name, setting in ServerSettings.model_fields.items():
        _, option = get_args(flags[name].annotation)
        assert (option.help, flags[name].default) == (setting.description, setting.default)


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


def test_the_settings_are_printed_as_a_file_with_their_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(serve)
    file = tmp_path / "server.toml"
    file.write_text('memory_budget = "1GB"\nlog = "a \\"log\\""\nhost = "0.0.0.0"\n')
    monkeypatch.setenv("TRIDEX_HOST", "127.0.0.2")
    printed = CliRunner().invoke(app, ("--print-config", "--config", str(file), "--http-inference")).stdout
    lines = printed.splitlines()
    assert f"memory_budget = 1000000000  # memory_budget in {file}" in lines
    assert 'host = "127.0.0.2"  # TRIDEX_HOST' in lines
    assert "http_inference = true  # --http-inference" in lines
    assert "grpc_port = 8001  # default" in lines and "# tls_cert is not set" in lines
    monkeypatch.delenv("TRIDEX_HOST")
    again = tmp_path / "again.toml"
    again.write_text(printed)
    flags = {"host": "127.0.0.2", "http_inference": True}
    assert ServerSettings.load(file=again) == ServerSettings.load(flags, file)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1), seconds=st.floats(1e-9, 1e6))
def test_whatever_is_set_is_read_back_as_it_was_printed(text: str, seconds: float) -> None:
    chosen = ServerSettings.load({"store": text, "start_timeout_s": seconds})
    written = tomllib.loads(chosen.to_toml({}, None))
    assert ServerSettings.load(written) == chosen


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("memory_budget", True, "a number of bytes"),
        ("log_size", "9" * 400, "a number of bytes"),
        ("log_size", "99999999999TiB", "a number of bytes"),
        ("grpc_keepalive_s", "inf", "seconds, more than 0 and at most 1,000,000"),
        ("start_timeout_s", float("nan"), "seconds, more than 0"),
        ("stop_timeout_s", "1e300", "seconds, from 0 to 1,000,000"),
        ("grpc_port", 99999, "a port, 1 to 65535"),
        ("host", "", "an IPv4 address"),
        ("metrics_host", "::1", "an IPv4 address"),
        ("otlp_endpoint", "collector:4318", "a URL without a password"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object, expected: str) -> None:
    with pytest.raises(InvalidSettingError) as refused:
        ServerSettings.load({name: value})
    assert str(refused.value).startswith(f"--{name.replace('_', '-')} is {value!r}; expected {expected}")


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidSettingError, match=r"'http://\*\*\*@h:4318'; expected a URL without a password"):
        ServerSettings.load({"otlp_endpoint": "http://user:secret@h:4318"})


def test_a_misspelt_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIDEX_GRPC_PROT", "9001")
    for other in ("TRIDEX_API_KEY", "TRIDEX_SERVER_CA", "TRIDEX_CLIENT_KEY", "TRIDEX_SERVICE_HOST", "TRIDEX_PORT"):
        monkeypatch.setenv(other, "x")
    assert misspelt() == ["TRIDEX_GRPC_PROT is no setting and has no effect; TRIDEX_GRPC_PORT is one"]


def test_a_file_that_the_environment_names_is_refused_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIDEX_CONFIG", "nope")
    with pytest.raises(InvalidSettingError, match="TRIDEX_CONFIG is 'nope'; expected a TOML file"):
        ServerSettings.load(file=Path("nope"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"tls_cert": "a.pem"}, "--tls-cert is set and --tls-key is not; expected both or neither"),
        ({"tls_key": "a.pem"}, "--tls-key is set and --tls-cert is not; expected both or neither"),
        ({"client_ca": "a.pem"}, "--client-ca is set; expected --tls-cert and --tls-key, too"),
        (
            {"tls_key": "a.pem", "tls_cert": "b.pem", "http_inference": True},
            "--http-inference and --tls-cert are set; expected one of them",
        ),
    ],
)
def test_tls_is_whole(flags: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        ServerSettings.load(flags)


def test_the_docs_have_the_table_of_settings() -> None:
    assert settings_table() in REFERENCE.read_text()
