"""Checks before a server starts, so that whatever is wrong is told in a sentence."""

from __future__ import annotations

import importlib.util
import ipaddress
import re
from pathlib import Path

from tridex.encoding import ArtifactError, latest_version_dir, load_artifact
from tridex.serving.settings import ServerSettings

from .errors import ServerError


def check_repository(repository: Path) -> None:
    """Raises ServerError where there is no model repository with a usable encoder."""
    try:
        if not repository.is_dir():
            raise ServerError(
                f"there is no model repository at {repository}; `make export` or `tridex export` makes one"
            )
        if not (repository / "search" / "config.pbtxt").exists():
            raise ServerError(f"{repository} is not Tridex's model repository: it has no search/config.pbtxt")
        version = latest_version_dir(repository / "encoder")
        load_artifact(version)
        _check_encoder_code(version / "model.py")
    except ArtifactError as error:
        raise ServerError(str(error)) from error
    except OSError as error:
        raise ServerError(f"the model repository cannot be read: {error.filename}: {error.strerror}") from error


def _check_encoder_code(file: Path) -> None:
    """Raises ServerError where an export by another version imports modules that this version does not have."""
    for module in re.findall(r"^from (\S+) import", file.read_text(errors="replace"), re.MULTILINE):
        if not _exists(module):
            raise ServerError(
                f"the encoder in {file.parent} was exported by another version of Tridex: its model.py imports "
                f"{module}, which this version does not have; run `make export` or `tridex export` again"
            )


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of its package
        return False


def check_tracing() -> None:
    """Raises ServerError where what sends traces is not installed."""
    if not _exists("opentelemetry.exporter.otlp.proto.http"):
        raise ServerError("--otlp-endpoint needs what sends traces: pip install 'tridex[tracing]'")


def check_store(store: Path) -> None:
    """Makes the store's folder, for its owner alone, where there is none; raises ServerError where that cannot be.

    A store that can be read and not written is served.
    """
    doing = "made"
    try:
        store.mkdir(mode=0o700, parents=True, exist_ok=True)
        doing = "read"
        next(store.iterdir(), None)
    except FileExistsError as error:
        raise ServerError(f"the store {store} is a file; expected a folder") from error
    except OSError as error:
        raise ServerError(
            f"the store {store} cannot be {doing}: {error.strerror}; choose another by --store"
        ) from error


def exposed(settings: ServerSettings) -> str:
    """What others on the network may do to a server with these settings, in a sentence, where that is more than it
    should be."""
    if ipaddress.IPv4Address(settings.host).is_loopback:
        return ""
    if not settings.api_key_file and not settings.client_ca:
        return f"whoever reaches {settings.host} may search, write and drop collections: --api-key-file says who may"
    if not settings.tls_cert:
        return f"API keys and texts are sent to {settings.host} unencrypted: --tls-cert encrypts them"
    return ""
