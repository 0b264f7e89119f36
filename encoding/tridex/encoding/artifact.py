"""An exported encoder on disk: one version folder of the encoder in a Triton server model repository."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import ArtifactError
from .manifest import MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, Manifest, sha256_of_file
from .tokenizer import WIDTH_MULTIPLE, Tokenizer

_REMEDY = "run `make export`"


@dataclass(frozen=True)
class Artifact:
    """A verified export."""

    directory: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        return self.directory / MODEL_FILE

    def tokenizer(self, *, pad_to_multiple_of: int = WIDTH_MULTIPLE) -> Tokenizer:
        rules = self.manifest.rules
        return Tokenizer(self.directory / TOKENIZER_FILE, rules, pad_to_multiple_of=pad_to_multiple_of)


def load_artifact(version_dir: Path) -> Artifact:
    """Loads the export in `version_dir` and compares every file with the manifest's hash.

    Raises:
        ArtifactError: A file is missing, unreadable, or not the exported one.
    """
    manifest_path = version_dir / MANIFEST_FILE
    try:
        manifest = Manifest.from_dict(json.loads(manifest_path.read_text()))
    except FileNotFoundError as error:
        raise ArtifactError(f"{manifest_path} is missing; {_REMEDY}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactError(
            f"{manifest_path} is not a manifest that this version wrote ({error}); {_REMEDY}"
        ) from error
    for name in sorted({MODEL_FILE, TOKENIZER_FILE, *manifest.files}):
        path, expected = version_dir / name, manifest.files.get(name)
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {_REMEDY}")
        if (actual := sha256_of_file(path)) != expected:
            raise ArtifactError(f"{path} was changed after export: SHA-256 {actual}, exported {expected}; {_REMEDY}")
    return Artifact(version_dir, manifest)


def versions(encoder_dir: Path) -> list[int]:
    """The version folders, ascending. Triton server reads the same ones: numbers without a leading zero."""
    if not encoder_dir.is_dir():
        return []
    return sorted(int(p.name) for p in encoder_dir.iterdir() if re.fullmatch("[1-9][0-9]*", p.name) and p.is_dir())


def latest_version_dir(encoder_dir: Path) -> Path:
    """The newest version folder of the repository's encoder, the one that Triton server serves.

    Raises:
        ArtifactError: There is none.
    """
    if not (numbers := versions(encoder_dir)):
        raise ArtifactError(f"no exported encoder in {encoder_dir}; {_REMEDY}")
    return encoder_dir / str(numbers[-1])
