"""Every setting of `tridex serve` and of the models it serves, by command line flag, environment variable and file.

A flag goes before the environment, which goes before the file of `--settings`. Environment and file name a setting
TRIDEX_NAME: the file has a line TRIDEX_NAME=value for each. docs/reference/settings.md holds the table of them all.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tridex.common import TridexError
from tridex.common.device import AUTO, EXPECTED, is_device

_PREFIX = "TRIDEX_"

S = TypeVar("S", bound="ModelSettings")


class InvalidSettingError(TridexError):
    """A setting is missing or has a bad value."""


def _bytes(given: Any) -> Any:
    """A number of bytes, with or without a unit."""
    if isinstance(given, int):
        return given
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", str(given).strip(), re.IGNORECASE)
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ")) if match else 0


def _device(given: Any) -> Any:
    """The name of a device, which is resolved later (tridex.common.device)."""
    if not is_device(str(given)):
        raise ValueError("not a device")
    return given


class ModelSettings(BaseSettings):
    """What the served models read from the environment that the server gives them.

    A setting's title is what its value is expected to be, for messages.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, frozen=True)

    store: Path = Field(title="a folder", description="The folder that holds the collections.")
    memory_budget: Annotated[int, BeforeValidator(_bytes), Field(ge=1)] | None = Field(
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

    @classmethod
    def load(cls: type[S], flags: dict[str, Any] | None = None, file: Path | None = None) -> S:
        """The settings of flags, environment and file, in this order.

        Raises:
            InvalidSettingError: A value is missing, bad, or of a setting that does not exist.
        """
        given = flags or {}
        try:
            if file is not None:
                file.read_text()
            return cls(_env_file=file, **given)  # type: ignore[call-arg]
        except ValidationError as error:
            raise InvalidSettingError(cls._sentence(error, given)) from error
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSettingError(
                f"--settings is {str(file)!r}; expected a file of lines TRIDEX_NAME=value ({error})"
            ) from error

    @classmethod
    def _sentence(cls, error: ValidationError, flags: dict[str, Any]) -> str:
        """What is wrong with the first bad setting, by the name that it was given under."""
        first = error.errors()[0]
        name = str(first["loc"][0])
        setting = cls.model_fields.get(name)
        if setting is None:
            expected = ", ".join(map(variable, cls.model_fields))
            return f"the settings file has {name.upper()}, which is no setting; expected one of: {expected}"
        if first["type"] == "missing":
            return f"{variable(name)} is not set; expected {setting.title}: {setting.description}"
        return f"{flag(name) if name in flags else variable(name)} is {first['input']!r}; expected {setting.title}"


class ServerSettings(ModelSettings):
    """What `tridex serve` takes."""

    device: Annotated[str, BeforeValidator(_device)] = Field(
        AUTO,
        title=EXPECTED,
        description="What encodes and searches: cpu, cuda, cuda:1 or auto, which is the first GPU where it can be "
        "used, and the CPU otherwise.",
    )
    kernel_cache: Path | None = Field(
        None,
        title="a folder",
        description="Where a GPU's compiled kernels are kept; by default kernel-cache beside the store.",
    )
    repository: Path = Field(
        Path("model_repository"), title="a folder", description="The model repository, with an exported encoder."
    )
    store: Path = Field(Path(".tridex/store"), title="a folder", description="The folder that holds the collections.")
    host: str = Field(
        "127.0.0.1", title="an IPv4 address", description="The address to listen on, for clients and health checks."
    )
    grpc_port: int = Field(8001, title="a port, 1 to 65535", description="For clients.")
    http_port: int = Field(8000, title="a port, 1 to 65535", description="For health checks.")
    metrics_port: int = Field(8002, title="a port, 1 to 65535", description="For Prometheus.")
    metrics_host: str = Field("127.0.0.1", title="an IPv4 address", description="The address that metrics listen on.")
    http_inference: bool = Field(
        False,
        title="true or false",
        description="Turn on Triton server's own HTTP on the HTTP port, for requests to models. In releases before "
        "25.07, as the embedded one, whoever reaches it can end the server.",
    )
    log: Path | None = Field(
        None, title="a file", description="The server's log; by default tritonserver.log beside the store."
    )


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return f"{_PREFIX}{setting.upper()}"


def flag(setting: str) -> str:
    """The command line flag of a setting."""
    return f"--{setting.replace('_', '-')}"


def environment(**settings: object) -> dict[str, str]:
    """Settings as environment variables, without those that are None."""
    return {variable(name): str(value) for name, value in settings.items() if value is not None}
