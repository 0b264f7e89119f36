"""The codebook of a residual collection: a file in the collection's folder, written once and never changed.

FOLDER/codebook-SHA256.npz    centroids int8 [centroids, dim], levels int8 [2 ** bits], step float32

`levels` is what the format calls the bucket weights. A file that was written before store format 5 has centroids in
float16, no multiples of the step: they and the bucket weights are rounded to a common step when they are loaded, and
the codes stay.

Its hash is in the collection's spec. Lance leaves files that it does not know alone.
"""

from __future__ import annotations

import hashlib
import io
import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tridex.index.errors import TokenIndexError

if TYPE_CHECKING:
    from tridex.kernels import Codebook

_REMEMBERED = 64
"""Codebooks kept in memory, by file: a collection is opened anew at every version (centroids: up to 16 MiB)."""


def save_codebook(folder: Path, codebook: Codebook) -> str:
    """Writes a codebook into a collection's folder, which is made where there is none; returns its SHA-256."""
    buffer = io.BytesIO()
    centroids, bucket_weights = codebook.centroids.cpu().numpy(), codebook.bucket_weights.cpu().numpy()
    np.savez(buffer, centroids=centroids, levels=bucket_weights, step=np.float32(codebook.step))
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / codebook_name(sha256)).open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    return sha256


@lru_cache(maxsize=_REMEMBERED)
def load_codebook(folder: Path, sha256: str) -> Codebook:
    """The codebook with that hash, on the CPU. Raises as check_codebook."""
    import torch  # which processes that read no codes do without

    from tridex.kernels import Codebook

    arrays = np.load(io.BytesIO(_content(folder, sha256)), allow_pickle=False)
    centroids, bucket_weights, step = (torch.from_numpy(arrays[name]) for name in ("centroids", "levels", "step"))
    if centroids.dtype == torch.float16:
        return Codebook.rounded(centroids, step * bucket_weights)
    return Codebook(centroids, bucket_weights, float(step))


@lru_cache(maxsize=_REMEMBERED)
def check_codebook(folder: Path, sha256: str) -> None:
    """Raises TokenIndexError where the file of the codebook with that hash is missing or another."""
    _content(folder, sha256)


def _content(folder: Path, sha256: str) -> bytes:
    path = folder / codebook_name(sha256)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TokenIndexError(
            f"{path} cannot be read ({error}): without it the collection's codes mean nothing"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise TokenIndexError(f"{path} was changed: its SHA-256 is not the one in its name, which the collection has")
    return content


def codebook_name(sha256: str) -> str:
    """The name of the file of the codebook with that hash."""
    return f"codebook-{sha256}.npz"
