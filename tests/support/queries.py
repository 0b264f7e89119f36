"""Queries' token embeddings, as a client that encodes for itself has them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tridex.encoding import Artifact, create_encoder


def embed_query(artifact: Artifact, text: str) -> NDArray[np.float32]:
    """The query's scoring tokens, [tokens, dim]."""
    batch = artifact.tokenizer().queries([text])
    return create_encoder(artifact).encode(batch)[0][batch.embedding_mask[0] != 0]
