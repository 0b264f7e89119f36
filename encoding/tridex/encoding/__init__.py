"""Text to token embeddings by an exported checkpoint's rules: tokenizer, encoder, artifact with its manifest.

Serving, bulk builds and the export's parity gate run the same code. Nothing here needs torch or transformers.
"""

from .artifact import Artifact, latest_version_dir, load_artifact
from .encoder import DeviceEncoder, Encoder
from .errors import ArtifactError, UnknownDeviceError
from .manifest import Manifest, sha256_of_file
from .onnx_encoder import create_encoder
from .pooling import cluster_means, join_windows, pool_members, pool_tokens
from .rules import DocumentReading, EncodingRules, Expansion, TextRules
from .small_batches import encode_in_small_batches
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
    "TextRules",
    "TextToken",
    "TokenBatch",
    "Tokenizer",
    "UnknownDeviceError",
    "cluster_means",
    "create_encoder",
    "encode_in_small_batches",
    "join_windows",
    "latest_version_dir",
    "load_artifact",
    "pool_members",
    "pool_tokens",
    "sha256_of_file",
]
