"""The manifest of an exported encoder: what it was made from, with hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .rules import EncodingRules


@dataclass(frozen=True)
class Manifest:
    """manifest.json, next to the graph that it describes."""

    source: str
    """Hub id, or the name of the checkpoint's folder."""
    revision: str | None
    """The Hub's commit; None for a folder."""
    checkpoint_format: str
    architecture: str
    """The backbone's class."""
    head: tuple[str, ...]
    """What follows the backbone, in order: projections and normalisation."""
    precision: str
    rules: EncodingRules
    weights: Mapping[str, str]
    """SHA-256 of the checkpoint's weight files, by path within it."""
    files: Mapping[str, str]
    """SHA-256 of the files of this folder that `load_artifact` verifies."""
    parity: Mapping[str, float]
    """What the parity gate measured against the checkpoint."""
    libraries: Mapping[str, str]
    """Versions that made the export."""
    created: str
    """UTC, in ISO 8601."""

    @property
    def dim(self) -> int:
        """Elements of a token embedding."""
        return self.rules.dim

    @property
    def fingerprint(self) -> str:
        """Identity of the checkpoint: weights, head, tokenizer and rules. Exports in different precisions share it, so
        an index made with one can be searched with the other."""
        identity = {
            "weights": sorted(self.weights.items()),
            "head": self.head,
            "tokenizer": self.files[TOKENIZER_FILE],
            "rules": self.rules.to_dict(),
        }
        return _sha256(identity)

    @property
    def component_hashes(self) -> dict[str, str]:
        """SHA-256 of each component of the fingerprint: the weights with the head; the tokenizer; the rules."""
        return {
            "weights": _sha256([sorted(self.weights.items()), self.head]),
            "tokenizer": self.files[TOKENIZER_FILE],
            "rules": _sha256(self.rules.to_dict()),
        }

    def to_dict(self) -> dict[str, Any]:
        """For JSON. `fingerprint` and `dim` are included for readers."""
        stored = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**stored, "rules": self.rules.to_dict(), "dim": self.dim, "fingerprint": self.fingerprint}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """The inverse of `to_dict`, also after a round trip through JSON.

        Raises:
            ValueError, TypeError, KeyError: A field is missing, unknown or of another shape, or what the fingerprint
                covers was changed.
        """
        stored = {name: value for name, value in values.items() if name not in ("dim", "fingerprint")}
        manifest = cls(
            **{**stored, "rules": EncodingRules.from_dict(values["rules"]), "head": tuple(values["head"])},
        )
        if manifest.fingerprint != values["fingerprint"]:
            raise ValueError(f"fingerprint is {values['fingerprint']}, its contents give {manifest.fingerprint}")
        return manifest


MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"
TOKENIZER_FILE = "tokenizer.json"


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    """In hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
