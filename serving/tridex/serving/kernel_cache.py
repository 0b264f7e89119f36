"""The cache of compiled kernels: a folder beside the store, which survives restarts and upgrades.

On a GPU the Triton language writes it and looks in it. Its keys are hashes of the kernels' source, of the language
itself and of its assembler, of the constants and of the GPU's kind, so an upgrade finds nothing of the version before.
Whether a kernel that has to prove itself serves is kept there, too (tridex.kernels.gpu.gluon.verdict). On a CPU numba
writes it, in a folder for each state of the kernels' source. Nothing is removed from it; it may be deleted whenever no
server runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tridex.common import TridexError
from tridex.common.device import CPU, DeviceError, check_gpu, number_of, resolve_device
from tridex.encoding import latest_version_dir, load_artifact
from tridex.protocol import models

from .settings import ServerSettings

if TYPE_CHECKING:
    from tridex.kernels import Codec

VARIABLE = "TRITON_CACHE_DIR"
"""The environment variable by which the Triton language learns where its cache is."""

NUMBA_VARIABLE = "NUMBA_CACHE_DIR"
"""The same of numba."""


class KernelCacheError(TridexError):
    """The cache cannot be used, or there is nothing to compile into it."""


def cache_folder(settings: ServerSettings) -> Path:
    """Where the cache of a server with these settings is."""
    return default_folder(settings.store) if settings.kernel_cache is None else settings.kernel_cache.resolve()


def default_folder(store: Path) -> Path:
    """Beside the store."""
    return store.resolve().parent / "kernel-cache"


def cpu_folder(folder: Path) -> Path:
    """Where in the cache the CPU's loops are, as their source is now (kernels/cpu/compiled.py)."""
    package = importlib.util.find_spec("tridex.kernels")
    assert package is not None and package.submodule_search_locations is not None
    digest = hashlib.sha256()
    for source in sorted(Path(package.submodule_search_locations[0], "cpu").glob("*.py")):
        digest.update(source.read_bytes())
    return folder / f"cpu-{digest.hexdigest()[:16]}"


def open_cache(folder: Path) -> None:
    """Makes the folder where there is none. What lies in it is run, so it is for its owner alone.

    Raises:
        KernelCacheError: It cannot be made, or belongs to another user.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_own = folder.stat().st_uid == os.geteuid()
        if is_own:
            folder.chmod(0o700)
    except OSError as error:
        raise KernelCacheError(
            f"the kernel cache {folder} cannot be made: {error.strerror}; choose another by --kernel-cache"
        ) from error
    if not is_own:
        raise KernelCacheError(
            f"the kernel cache {folder} belongs to another user, and what lies in it is run; choose another by "
            "--kernel-cache"
        )


def fill_cache(settings: ServerSettings, capabilities: Sequence[int], codecs: Sequence[str] | None) -> list[Codec]:
    """Compiles what `tridex serve` would at its start, for GPUs that need not be here.

    Args:
        settings: As of `tridex serve`.
        capabilities: Of the GPUs, as 90 for sm_90; none stands for the one of the settings' device.
        codecs: Of collections; None stands for those that the store has.

    Returns:
        The codecs that are compiled.

    Raises:
        KernelCacheError: The cache cannot be used, or no codec is named or found.
        DeviceError: No GPU was named and there is none.
        ArtifactError: There is no exported encoder.
    """
    folder = cache_folder(settings)
    open_cache(folder)
    os.environ[VARIABLE] = str(folder)
    manifest = load_artifact(latest_version_dir(settings.repository / models.ENCODER.name)).manifest
    from tridex import kernels

    # Texts are reranked in float32, whatever collections there are.
    wanted = sorted({kernels.Codec.FLOAT32, *_codecs(settings.store, codecs)}, key=lambda codec: codec.value)
    for capability in capabilities or [_capability_here(settings.device)]:
        kernels.compile_ahead(capability, manifest.dim, wanted)
    return wanted


def _codecs(store: Path, named: Sequence[str] | None) -> set[Codec]:
    from tridex.index import Store
    from tridex.kernels import Codec

    if named:
        known = [codec.value for codec in Codec]
        for name in named:
            if name not in known:
                raise KernelCacheError(f"--codec is {name!r}; expected one of: {', '.join(known)}")
        return set(map(Codec, named))
    found = {Store(store).open(name).spec.codec for name in Store(store).names()} if store.is_dir() else set()
    if not found:
        raise KernelCacheError(f"there is no collection in {store}; expected --codec, such as --codec float16")
    return found


def _capability_here(device: str) -> int:
    resolved = resolve_device(device)
    if resolved == CPU:
        raise DeviceError(f"device {device} is the CPU here, whose code is not kept", "name a GPU, as --gpu sm_90")
    major, minor = check_gpu(number_of(resolved)).capability
    return 10 * major + minor
