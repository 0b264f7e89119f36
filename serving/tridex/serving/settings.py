"""Every setting of `tridex serve` and of the models it serves, by command line flag, environment variable and file.

A flag goes before the environment, which goes before the TOML file of `--config`. A setting `name` is the flag --name,
the environment variable TRIDEX_NAME, and the file's key name. docs/reference/settings.md holds the table of them all.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import re
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tridex.common import TridexError
from tridex.common.device import AUTO, EXPECTED, is_device

from .log_record import LogFormat

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PREFIX = "TRIDEX_"

CONFIG = "TRIDEX_CONFIG"
"""The environment variable of the file of settings."""

_PASSWORD = re.compile(r"//[^/\s]*@")
"""Of a URL."""

_MOST_BYTES = 2**63 - 1
_MOST_S = 1_000_000
"""Seconds of a setting, 11 days: Triton server takes milliseconds as a C int."""

S = TypeVar("S", bound="ModelSettings")


class InvalidSettingError(TridexError):
    """A setting is missing or has a bad value."""


def _bytes(given: Any) -> Any:
    """A number of bytes, with or without a unit."""
    match = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([kmgt]?)(i?)b?", str(given).strip(), re.IGNORECASE)
    if not match:
        raise ValueError("not a number of bytes")
    return int(Decimal(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " "))


def _address(given: Any) -> Any:
    """An address to listen on."""
    return str(ipaddress.IPv4Address(str(given)))


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=1, le=_MOST_BYTES)]
Address = Annotated[str, BeforeValidator(_address)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=_MOST_S)]
_SECONDS = f"seconds, more than 0 and at most {_MOST_S:,}"


def _device(given: Any) -> Any:
    """The name of a device, which is resolved later (tridex.common.device)."""
    if not is_device(str(given)):
        raise ValueError("not a device")
    return given


class ModelSettings(BaseSettings):
    """What the served models read from the environment that the server gives them.

    A setting's title is what its value is expected to be, for messages.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True, allow_inf_nan=False)

    store: Path = Field(title="a folder", description="The folder that holds the collections.")
    device: Annotated[str, BeforeValidator(_device)] = Field(
        AUTO,
        title=EXPECTED,
        description="What encodes and searches: cpu, cuda, cuda:1 or auto, which is the first GPU where it can be "
        "used, and the CPU otherwise.",
    )
    memory_budget: Bytes | None = Field(
        None,
        title="a number of bytes, as 20GB, 512MiB or 20000000000",
        description="Memory for collections on the device, as 20GB or 512MiB; by default half of the host's memory, or "
        "of a GPU's what is free at start, less what encoder and searches need.",
    )
    tensorrt: bool = Field(
        False,
        title="true or false",
        description="Have TensorRT encode searches on a GPU; its libraries have to be installed. The first start takes "
        "minutes more.",
    )
    recall_sample_rate: float = Field(
        0.01,
        ge=0,
        le=1,
        title="a number from 0 to 1",
        description="Share of the approximate searches that are repeated exactly to measure their recall.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/@\s]+(/\S*)?$",
        title="a URL without a password, as http://localhost:4318",
        description="Where traces are sent, by OTLP over HTTP; nowhere by default. Needs the extra tracing.",
    )
    trace_sample_rate: float = Field(
        0.01,
        ge=0,
        le=1,
        title="a number from 0 to 1",
        description="Share of the requests that are traced, of those whose caller sends no trace of its own.",
    )

    api_key_file: Path | None = Field(
        None,
        title="a file of API keys",
        description="Who may call, and with which rights; `tridex api-key` writes it. Everybody may where there is "
        "none.",
    )

    @classmethod
    def load(cls: type[S], flags: Mapping[str, Any] | None = None, file: Path | None = None) -> S:
        """The settings of flags, environment and file, in this order.

        Raises:
            InvalidSettingError: A value is missing, bad, or of a setting that does not exist.
        """
        flags, written = flags or {}, _read(file)
        try:
            return cls(**{name: value for name, value in written.items() if name not in _environment()} | {**flags})
        except ValidationError as error:
            raise InvalidSettingError(cls._sentence(error, _Sources(flags, written, file))) from error

    @classmethod
    def _sentence(cls, error: ValidationError, sources: _Sources) -> str:
        """What is wrong with the first bad setting, by the name that it was given under."""
        first = error.errors()[0]
        if not first["loc"]:  # of several settings together
            return str(first["ctx"]["error"])
        name = str(first["loc"][0])
        setting = cls.model_fields.get(name)
        if setting is None:
            expected = ", ".join(cls.model_fields)
            return f"{sources.file} has {name}, which is no setting; expected one of: {expected}"
        if first["type"] == "missing":
            return f"{variable(name)} is not set; expected {setting.title}: {setting.description}"
        given = _PASSWORD.sub("//***@", repr(first["input"]))
        return f"{sources.of(name)} is {given}; expected {setting.title}"


class ServerSettings(ModelSettings):
    """What `tridex serve` takes."""

    kernel_cache: Path | None = Field(
        None,
        title="a folder",
        description="Where compiled kernels are kept; by default kernel-cache beside the store.",
    )
    repository: Path = Field(
        Path("model_repository"), title="a folder", description="The model repository, with an exported encoder."
    )
    store: Path = Field(Path(".tridex/store"), title="a folder", description="The folder that holds the collections.")
    host: Address = Field(
        "127.0.0.1", title="an IPv4 address", description="The address to listen on, for clients and health checks."
    )
    grpc_port: Port = Field(8001, title="a port, 1 to 65535", description="For clients.")
    http_port: Port = Field(
        8000, title="a port, 1 to 65535", description="For health checks, and with --http-inference for requests."
    )
    metrics_port: Port = Field(8002, title="a port, 1 to 65535", description="For Prometheus.")
    metrics_host: Address = Field(
        "127.0.0.1", title="an IPv4 address", description="The address that metrics listen on."
    )
    http_inference: bool = Field(
        False,
        title="true or false",
        description="Turn on Triton server's own HTTP on the HTTP port, for requests to models. In releases before "
        "25.07, as the embedded one, whoever reaches it can end the server.",
    )
    tls_cert: Path | None = Field(
        None,
        title="a PEM file",
        description="The server's certificate, and those between it and its authority: gRPC, health and metrics are "
        "encrypted.",
    )
    tls_key: Path | None = Field(None, title="a PEM file", description="The certificate's private key.")
    client_ca: Path | None = Field(
        None,
        title="a PEM file",
        description="The authorities of clients' certificates: gRPC and metrics are for clients that have one (mutual "
        "TLS).",
    )
    grpc_keepalive_s: Seconds = Field(
        7200.0,
        title=_SECONDS,
        description="A connection that is silent for this long is asked whether its client is there.",
    )
    grpc_max_connection_age_s: Seconds | None = Field(
        None,
        title=_SECONDS,
        description="A connection is closed, and its client connects anew, after this time, so that clients spread "
        "over the servers behind one address.",
    )
    grpc_compression: Literal["none", "low", "medium", "high"] = Field(
        "none", title="none, low, medium or high", description="How much answers are compressed."
    )
    log_verbosity: int = Field(
        0, ge=0, le=9, title="a number from 0 to 9", description="How much Triton server logs beside errors."
    )
    start_timeout_s: Seconds = Field(
        180.0, title=_SECONDS, description="How long a start may take until every model is ready."
    )
    stop_timeout_s: float = Field(
        20.0,
        ge=0,
        le=_MOST_S,
        title=f"seconds, from 0 to {_MOST_S:,}",
        description="How long requests in flight may take when the server stops.",
    )
    log: Path | None = Field(
        None, title="a file", description="The server's log; by default STORE.log beside the folder STORE."
    )
    log_format: LogFormat = Field(
        "plain", title="plain or json", description="One record a line in the log, as text or as JSON."
    )
    log_size: Bytes = Field(
        "100MB",
        validate_default=True,
        title="a number of bytes, as 100MB",
        description="The log's size at which it is rotated; five older files are kept.",
    )

    @model_validator(mode="after")
    def _tls_is_complete(self) -> ServerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("tls_cert", "tls_key") if self.tls_cert else ("tls_key", "tls_cert")
            raise ValueError(f"{flag(given)} is set and {flag(missing)} is not; expected both or neither")
        if self.client_ca and not self.tls_cert:
            raise ValueError(f"{flag('client_ca')} is set; expected {flag('tls_cert')} and {flag('tls_key')}, too")
        if self.tls_cert and self.http_inference:
            raise ValueError(
                f"{flag('http_inference')} and {flag('tls_cert')} are set; expected one of them: Triton server's HTTP "
                "has no TLS"
            )
        return self

    def to_toml(self, flags: Mapping[str, Any], file: Path | None) -> str:
        """A file for `--config` with every setting and where its value is from. No setting is a secret."""
        sources = _Sources(flags, _read(file), file)
        return "".join(
            f"# {name} is not set\n" if value is None else f"{name} = {_toml(value)}  # {sources.of(name)}\n"
            for name, value in self
        )


class _Sources:
    """Where settings' values are from."""

    def __init__(self, flags: Mapping[str, Any], written: Mapping[str, Any], file: Path | None) -> None:
        self._flags = flags
        self._written = written
        self.file = file

    def of(self, name: str) -> str:
        """The flag, variable or file that a setting was given by."""
        if name in self._flags:
            return flag(name)
        if name in _environment():
            return variable(name)
        return f"{name} in {self.file}" if name in self._written else "default"


def _environment() -> set[str]:
    """The names of the settings that the environment has."""
    given = {key.upper() for key, value in os.environ.items() if value}
    return {key.removeprefix(_PREFIX).lower() for key in given if key.startswith(_PREFIX)}


def _read(file: Path | None) -> dict[str, Any]:
    """A TOML file's keys and values, none where there is no file. Raises InvalidSettingError."""
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        source = CONFIG if Path(os.environ.get(CONFIG, "")) == file else "--config"
        raise InvalidSettingError(f"{source} is {str(file)!r}; expected a TOML file of settings ({error})") from error


def _toml(value: object) -> str:
    """A value as TOML, whose strings are JSON's but for surrogates and DEL."""
    plain = value if isinstance(value, bool | int | float) else str(value)
    return json.dumps(plain, ensure_ascii=False).replace("\x7f", r"\u007f")


def misspelt() -> list[str]:
    """A sentence for each variable of the environment that is no setting, and like one."""
    settings = {name: variable(name) for name in ServerSettings.model_fields}
    found = []
    for name in sorted(_environment() - settings.keys()):
        for meant in difflib.get_close_matches(name, settings, n=1, cutoff=0.85):
            found.append(f"{variable(name)} is no setting and has no effect; {settings[meant]} is one")
    return found


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"{_PREFIX}{setting.upper()}"


def flag(setting: str) -> str:
    """The command line flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def environment(**settings: object) -> dict[str, str]:
    """Settings as environment variables, without those that are None."""
    return {variable(name): str(value) for name, value in settings.items() if value is not None}
