"""Exported scores against Sentence Transformers' own, on every format and convention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

from tridex.encoding import Artifact, TokenBatch, create_encoder
from tridex.export import write_default_checkpoint
from tridex.export.exporter import export_checkpoint

QUERIES = [
    "Who keeps one embedding a token?",
    "river",
    "REMOVE the directory, and everything in it; then the file [MASK] and the row below, row by row by row by row",
    "Ünïcödé 東京 🙂 (x + y) ** 2",
]
DOCUMENTS = [
    "Paris, on the river Seine: the capital of France.",
    "remove a directory and everything in it: shutil.rmtree(path)",
    "sugar",
    "A custard base with a layer of caramelised sugar! " * 12,
    "東京は日本の首都である — naïve café",
]
Exported = Callable[[str, str], Artifact]
Reference = Callable[[str], MultiVectorEncoder]


def scored(embeddings: NDArray[np.float32], mask: NDArray[np.int64]) -> list[NDArray[np.float32]]:
    return [rows[row_mask == 1] for rows, row_mask in zip(embeddings, mask, strict=True)]


def exported_scores(artifact: Artifact) -> NDArray[np.float64]:
    """MaxSim as the paper writes it, over what the served code makes of the texts."""
    tokenizer, encoder = artifact.tokenizer(), create_encoder(artifact)
    queries, documents = tokenizer.queries(QUERIES), tokenizer.documents(DOCUMENTS)
    q = scored(encoder.encode(queries), queries.embedding_mask)
    d = scored(encoder.encode(documents), documents.embedding_mask)
    scores = np.array([[sum(max(float(a @ b) for b in y) for a in x) for y in d] for x in q])
    if artifact.manifest.rules.similarity == "meanmaxsim":
        scores /= np.array([[len(x)] for x in q])
    return scores


def reference_scores(model: MultiVectorEncoder) -> NDArray[np.float64]:
    return model.similarity(model.encode_query(QUERIES), model.encode_document(DOCUMENTS)).numpy().astype(np.float64)


@pytest.mark.parametrize(
    ("variant", "checkpoint_format"),
    [
        ("stanford_unattended", "stanford"),
        ("stanford_attended", "stanford"),
        ("pylate_modern_bert", "pylate"),
        ("pylate_early", "pylate"),
        ("native_min_expansion", "sentence-transformers"),
        ("native_attended", "sentence-transformers"),
        ("native_far_expansion", "sentence-transformers"),
    ],
)
def test_fp32_scores(exported: Exported, reference: Reference, variant: str, checkpoint_format: str) -> None:
    artifact = exported(variant, "fp32")
    assert artifact.manifest.checkpoint_format == checkpoint_format
    assert np.abs(exported_scores(artifact) - reference_scores(reference(variant))).max() < 1e-4
    assert artifact.manifest.parity["score_error"] < 1e-4


@pytest.mark.parametrize("variant", ["stanford_unattended", "pylate_modern_bert"])
def test_fp16_scores(exported: Exported, reference: Reference, variant: str) -> None:
    artifact = exported(variant, "fp16")
    assert np.abs(exported_scores(artifact) - reference_scores(reference(variant))).max() < 1e-2
    weights = {tensor.data_type for tensor in onnx.load(artifact.model_path).graph.initializer if len(tensor.dims) == 2}
    assert onnx.TensorProto.FLOAT16 in weights


def test_int8_scores_of_a_trained_model(tmp_path: Path) -> None:
    """On the default checkpoint: random weights have none of the outliers that make quantisation hard."""
    source = write_default_checkpoint(tmp_path)
    artifact = export_checkpoint(str(source), repository=tmp_path / "repository", precision="int8")
    expected = reference_scores(MultiVectorEncoder(str(source), device="cpu"))
    error = np.abs(exported_scores(artifact) - expected).max() / expected.max()
    assert 0 < error < 0.05
    assert artifact.manifest.parity["token_cosine"] > 0.996
    assert artifact.model_path.stat().st_size < 0.7 * (source / "model.safetensors").stat().st_size


def test_precisions_share_a_fingerprint(exported: Exported) -> None:
    fp32, fp16 = (exported("stanford_unattended", precision).manifest for precision in ("fp32", "fp16"))
    assert fp32.fingerprint == fp16.fingerprint
    assert fp32.files["model.onnx"] != fp16.files["model.onnx"]
    assert fp32.fingerprint != exported("stanford_attended", "fp32").manifest.fingerprint


@pytest.mark.parametrize(
    ("variant", "precision", "tolerance"),
    # 8-bit products are exact sums of integers, and everything else works on one text at a time.
    [
        ("stanford_unattended", "fp32", 1e-6),
        ("pylate_modern_bert", "fp32", 1e-6),
        ("native_far_expansion", "fp32", 1e-6),
        ("native_min_expansion", "int8", 0.0),
    ],
)
def test_other_texts_of_a_batch_change_nothing(
    exported: Exported, variant: str, precision: str, tolerance: float
) -> None:
    artifact = exported(variant, precision)
    encoder, tokenizer = create_encoder(artifact), artifact.tokenizer()
    for encode, texts in ((tokenizer.queries, QUERIES), (tokenizer.documents, DOCUMENTS)):
        together = encode([*texts, *reversed(texts)])
        embeddings = scored(encoder.encode(together), together.embedding_mask)
        alone = [encode([text]) for text in texts]
        one_by_one = [scored(encoder.encode(batch), batch.embedding_mask)[0] for batch in alone]
        merged = [scored(e, b.embedding_mask)[0] for e, b in zip(encoder.encode_many(alone), alone, strict=True)]
        for expected, *others in zip(one_by_one, merged, embeddings, reversed(embeddings), strict=False):
            for other in others:
                np.testing.assert_allclose(other, expected, rtol=0, atol=tolerance)


def test_any_shape(exported: Exported, reference: Reference) -> None:
    """One text, one token, the widest batch: the graph was traced with another shape."""
    encoder, model = create_encoder(exported("stanford_attended", "fp32")), reference("stanford_attended")
    for texts, tokens in ((1, 1), (1, 7), (3, 1), (64, 64)):
        ids = np.random.default_rng(0).integers(7, 100, (texts, tokens))
        ones = np.ones_like(ids)
        features = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(ones)}
        with torch.inference_mode():
            for module in model:
                features = features if isinstance(module, MultiVectorMask) else module(features)
        expected = features["token_embeddings"].numpy()
        np.testing.assert_allclose(encoder.encode(TokenBatch(ids, ones, ones)), expected, atol=1e-5)


def test_masked_tokens_are_zero_and_the_rest_unit(exported: Exported) -> None:
    artifact = exported("pylate_modern_bert", "fp32")
    batch = artifact.tokenizer().documents(DOCUMENTS)
    norms = np.linalg.norm(create_encoder(artifact).encode(batch), axis=2)
    np.testing.assert_allclose(norms, batch.embedding_mask, atol=1e-5)
    assert (batch.embedding_mask < batch.attention_mask).any(), "punctuation should not score"


def test_graph_is_what_the_served_configuration_says(exported: Exported) -> None:
    graph = onnx.load(exported("native_attended", "fp32").model_path).graph
    shapes = {
        value.name: [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        **{name: ["batch", "tokens"] for name in ("INPUT_IDS", "ATTENTION_MASK", "EMBEDDING_MASK")},
        "EMBEDDINGS": ["batch", "tokens", "dim"],
    }
    assert not any(node.metadata_props for node in graph.node), "paths of the exporting machine"


@pytest.mark.parametrize(("variant", "is_local"), [("stanford_attended", False), ("native_far_expansion", True)])
def test_no_graph_looks_its_mask_up(exported: Callable[[str, str], Artifact], variant: str, is_local: bool) -> None:
    """So that a GPU runs all of it. Of local attention the distances are counted out, which it does."""
    operations = {node.op_type for node in onnx.load(exported(variant, "fp32").model_path).graph.node}
    assert "GatherND" not in operations
    assert is_local or "Range" not in operations
