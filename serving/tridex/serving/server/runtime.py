"""Finds a tritonserver to run: the one of the container this runs in, or the one inside a PyPI wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ServerError


@dataclass(frozen=True)
class Runtime:
    """A tritonserver binary and what it needs: extra arguments, environment changes, the encoder's config variant."""

    name: str
    binary: Path
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    encoder_config: str | None = None


def find_runtime(work_dir: Path) -> Runtime:
    """The container's tritonserver where there is one, the embedded one otherwise.

    `work_dir` is where the embedded runtime lays out its backend folder; it must outlive the server.
    Raises ServerError where neither is installed.
    """
    installed = shutil.which("tritonserver")
    if installed:
        return Runtime("Triton Inference Server", Path(installed))
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(
            "no tritonserver on PATH and no embedded one: pip install 'tridex[embedded]', "
            "or run inside an image of NVIDIA Triton Inference Server"
        )
    return _embedded(Path(next(iter(spec.submodule_search_locations))), work_dir)


def _embedded(package: Path, work_dir: Path) -> Runtime:
    """The tritonserver inside the nvidia-pytriton wheel, run directly."""
    home = package / "tritonserver"
    # The wheel keeps the Python backend and its per-version stubs apart; the server wants them side by side.
    backend = work_dir / "backends" / "python"
    backend.mkdir(parents=True, exist_ok=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise ServerError(f"the embedded tritonserver has no stub for Python {version}; it runs 3.8 to 3.13")
    for source in (*(home / "backends" / "python").glob("*.*"), stub):
        link = backend / source.name
        link.unlink(missing_ok=True)
        link.symlink_to(source)
    # The stub takes the first python3 on PATH, and its libpython from the loader: an older one of the system would
    # otherwise be taken and imports of compiled packages fail.
    libraries = [str(package.parent / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    return Runtime(
        name="embedded Triton Inference Server",
        binary=home / "bin" / "tritonserver",
        arguments=(f"--backend-directory={work_dir / 'backends'}", f"--cache-directory={home / 'caches'}"),
        environment={
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (*libraries, os.environ.get("LD_LIBRARY_PATH")))),
        },
        # The wheel carries no onnxruntime backend.
        encoder_config="cpu",
    )
