"""Text to token embeddings by an exported checkpoint's rules: tokens, ONNX session, artifact with its manifest.

What serves, and what the export's parity gate runs: nothing here needs torch or transformers.
"""

from .artifact import Artifact, ArtifactError, latest_version_dir, load_artifact
from .manifest import Manifest, sha256_of_file
from .onnx_encoder import OnnxEncoder
from .pooling import pool_tokens
from .rules import DocumentReading, EncodingRules, Expansion, TextRules
from .tokenizer import TokenBatch, Tokenizer

__all__ = [
    "Artifact",
    "ArtifactError",
    "DocumentReading",
    "EncodingRules",
    "Expansion",
    "Manifest",
    "OnnxEncoder",
    "TextRules",
    "TokenBatch",
    "Tokenizer",
    "latest_version_dir",
    "load_artifact",
    "pool_tokens",
    "sha256_of_file",
]
