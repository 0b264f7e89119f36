"""Exports a checkpoint into the model repository, from end to end."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import onnx

from tridex.common.installed import versions
from tridex.encoding import (
    Artifact,
    EncodingRules,
    Manifest,
    create_encoder,
    load_artifact,
    sha256_of_file,
)
from tridex.encoding.manifest import MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE
from tridex.protocol import models

from .blind_tokens import attention_for
from .checkpoint import backbone_of, describe_head, load_checkpoint, rules_of, tokenizer_of
from .default_checkpoint import write_default_checkpoint
from .errors import ExportError
from .graph import trace
from .parity import check_parity
from .precision import Precision
from .publish import publish, staging_dir
from .repository import write, write_encoder_code
from .source import Source, find_source
from .tensorrt import build_engine, find_trtexec

_LIBRARIES = (
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "sentence-transformers",
    "tokenizers",
    "torch",
    "transformers",
    "tridex",
)


def export_checkpoint(
    model: str,
    *,
    repository: Path = Path("model_repository"),
    precision: str = "fp32",
    revision: str | None = None,
    tensorrt: bool = False,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """Exports a checkpoint, compares it with the original, and publishes it as the encoder's next version.

    Args:
        model: A folder, or an id on the Hugging Face Hub.
        repository: The Triton server model repository.
        precision: "fp32", "fp16" or "int8".
        revision: Branch, tag or commit on the Hub.
        tensorrt: Build a TensorRT engine too; takes trtexec and the GPU that will serve.
        on_stage: Told of each stage as it begins.

    Raises:
        ExportError: One of its subclasses. What was published before stays as it was.
    """
    if precision not in [known.value for known in Precision]:
        raise ExportError(f"precision: {precision!r}, expected one of {', '.join(known.value for known in Precision)}")
    chosen = Precision(precision)
    trtexec = find_trtexec(chosen) if tensorrt else None

    on_stage("load the checkpoint")
    source = find_source(model, revision)
    checkpoint = load_checkpoint(source)
    rules = rules_of(checkpoint)
    head = describe_head(checkpoint)
    backbone = backbone_of(checkpoint).model
    architecture = type(backbone).__name__
    tokenizer = tokenizer_of(checkpoint)
    attention = attention_for(backbone, tokenizer, rules)

    on_stage(f"trace the graph as {chosen.value}")
    graph = trace(checkpoint, chosen, attention)
    del checkpoint, backbone

    with staging_dir(repository / models.ENCODER.name) as staging:
        files = [staging / MODEL_FILE, staging / TOKENIZER_FILE]
        onnx.save(graph, files[0])
        files[1].write_text(tokenizer.to_str(), encoding="utf-8")
        del graph
        manifest = Manifest(
            source=source.name,
            revision=source.revision,
            checkpoint_format=source.format.value,
            architecture=architecture,
            head=head,
            precision=chosen.value,
            rules=rules,
            weights=_weight_hashes(source),
            files={path.name: sha256_of_file(path) for path in files},
            parity={},
            libraries=versions(_LIBRARIES),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )

        on_stage("compare with the checkpoint")
        staged = Artifact(staging, manifest)
        parity = check_parity(load_checkpoint(source), staged.tokenizer(), create_encoder(staged), rules, chosen)
        manifest = replace(manifest, parity=parity.to_dict())

        if trtexec:
            on_stage("build the TensorRT engine")
            engine = build_engine(trtexec, staged.model_path, _max_tokens(rules))
            manifest = replace(manifest, files={**manifest.files, engine.name: sha256_of_file(engine)})

        on_stage("publish")
        (staging / MANIFEST_FILE).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n", encoding="utf-8")
        write_encoder_code(staging)
        # A new folder becomes a whole repository; a config that an operator has changed stays.
        list(write(repository, overwrite=False))
        return load_artifact(publish(staging))


def export_default(
    repository: Path = Path("model_repository"),
    *,
    name: str = "default",
    precision: str = "fp32",
    tensorrt: bool = False,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Artifact:
    """`export_checkpoint` for a checkpoint that needs no download: a name in `default_checkpoint.BUILT_IN`."""
    with tempfile.TemporaryDirectory() as folder:
        on_stage(f"write the {name} checkpoint")
        checkpoint = str(write_default_checkpoint(Path(folder), name))
        return export_checkpoint(
            checkpoint, repository=repository, precision=precision, tensorrt=tensorrt, on_stage=on_stage
        )


def _max_tokens(rules: EncodingRules) -> int:
    return max(rules.query.length, rules.document.length)


def _weight_hashes(source: Source) -> dict[str, str]:
    return {path.as_posix(): sha256_of_file(source.folder / path) for path in source.weights}
