"""Text to token embeddings by an exported checkpoint's rules: tokenizer, encoder, artifact with its manifest.

Serving, bulk builds and the export's parity gate run the same code. Nothing here needs torch or transformers.
"""

import os
from typing import TYPE_CHECKING

from tridex.common.lazy import lazy_exports

# Read when onnxruntime is imported, which is below: since 1.29 it tells its maker of each process and session.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from .artifact import Artifact, latest_version_dir, load_artifact
    from .encoder import DeviceEncoder, Encoder
    from .errors import ArtifactError, ProviderError, UnknownDeviceError
    from .manifest import Manifest, sha256_of_file
    from .onnx_encoder import create_encoder
    from .pooling import cluster_means, join_windows, pool_members, pool_tokens
    from .providers import execution_providers, load_cuda_provider, load_tensorrt_provider
    from .rules import DocumentReading, EncodingRules, Expansion, TextRules
    from .small_batches import encode_in_small_batches, groups_of_texts
    from .text_tokens import TextToken
    from .tokenizer import TokenBatch, Tokenizer

__all__ = [
    "Artifact",
    "ArtifactError",
    "DeviceEncoder",
    "DocumentReading",
    "Encoder",
    "EncodingRules",
    "Expansion",
    "Manifest",
    "ProviderError",
    "TextRules",
    "TextToken",
    "TokenBatch",
    "Tokenizer",
    "UnknownDeviceError",
    "cluster_means",
    "create_encoder",
    "encode_in_small_batches",
    "execution_providers",
    "groups_of_texts",
    "join_windows",
    "latest_version_dir",
    "load_artifact",
    "load_cuda_provider",
    "load_tensorrt_provider",
    "pool_members",
    "pool_tokens",
    "sha256_of_file",
]

if not TYPE_CHECKING:  # which would take any name for an exported one
    __getattr__ = lazy_exports(
        __name__,
        {
            "artifact": ["Artifact", "latest_version_dir", "load_artifact"],
            "encoder": ["DeviceEncoder", "Encoder"],
            "errors": ["ArtifactError", "ProviderError", "UnknownDeviceError"],
            "manifest": ["Manifest", "sha256_of_file"],
            "onnx_encoder": ["create_encoder"],
            "pooling": ["cluster_means", "join_windows", "pool_members", "pool_tokens"],
            "providers": ["execution_providers", "load_cuda_provider", "load_tensorrt_provider"],
            "rules": ["DocumentReading", "EncodingRules", "Expansion", "TextRules"],
            "small_batches": ["encode_in_small_batches", "groups_of_texts"],
            "text_tokens": ["TextToken"],
            "tokenizer": ["TokenBatch", "Tokenizer"],
        },
    )
