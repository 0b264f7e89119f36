"""Checkpoint to ONNX: backbone, projections, normalisation and mask as one graph."""

from __future__ import annotations

import warnings

import onnx
import torch
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn

from tridex.protocol import models

from .checkpoint import backbone_of
from .errors import CheckpointError
from .masks import broadcast_masks
from .precision import Precision, quantised

_OPSET = {
    Precision.FP32: 18,
    Precision.FP16: 18,
    # The first with Gelu, one pass over the widest tensors in place of five. Only ONNX Runtime runs this graph; those
    # that TensorRT reads stay with the older set.
    Precision.INT8: 20,
}
_ONNX_FILE_BYTES = 2 << 30


class EncoderGraph(nn.Module):
    """INPUT_IDS, ATTENTION_MASK and EMBEDDING_MASK, int64 [batch, tokens], to EMBEDDINGS, float32 [batch, tokens, dim].

    Runs the checkpoint's own modules, so that bias, activation, residual and their order are as trained. The
    checkpoint's mask module chooses tokens by their ids; here the tokenizer has chosen them, and the mask is a product.
    """

    def __init__(self, model: MultiVectorEncoder) -> None:
        super().__init__()
        self.backbone = backbone_of(model)
        self.head = nn.ModuleList(module for module in list(model)[1:] if not isinstance(module, MultiVectorMask))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, embedding_mask: Tensor) -> Tensor:
        features = self.backbone({"input_ids": input_ids, "attention_mask": attention_mask})
        # The head is float32 behind a float16 backbone too: it is small, and squares of a norm overflow above 255.
        features["token_embeddings"] = features["token_embeddings"].float()
        for module in self.head:
            features = module(features)
        embeddings: Tensor = features["token_embeddings"]
        return embeddings * embedding_mask.unsqueeze(-1).to(embeddings.dtype)


def trace(model: MultiVectorEncoder, precision: Precision, attention: str) -> onnx.ModelProto:
    """The graph for any number of texts and tokens. Changes the model's attention and its type.

    Args:
        model: The checkpoint.
        precision: Of the graph.
        attention: As `attention_for` returns it.

    Raises:
        CheckpointError: The weights do not fit into one ONNX file.
    """
    size = sum(parameter.numel() * 4 for parameter in model.parameters())
    if size >= _ONNX_FILE_BYTES:
        raise CheckpointError(f"weights: {size / 2**30:.1f} GiB as float32, expected less than 2 GiB (one ONNX file)")
    backbone = backbone_of(model).model
    # Scaled dot product attention exports with a guard against fully masked rows in every layer. Without it MiniLM on
    # one core is 4 % faster (int8: 8 %).
    backbone.set_attn_implementation(attention)
    if precision is Precision.FP16:
        # Before tracing, so that softmax and norms stay in float32 where the model needs it.
        backbone.half()  # type: ignore[no-untyped-call]
    with broadcast_masks():
        graph = _exported(EncoderGraph(model).eval(), _OPSET[precision])
    _forget_provenance(graph)
    # The served configuration has -1 here for all checkpoints, and Triton server compares.
    graph.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "dim"
    return quantised(graph) if precision is Precision.INT8 else graph


def _exported(module: EncoderGraph, opset: int) -> onnx.ModelProto:
    # Three different tensors: if two inputs are one tensor, the trace loses one of them.
    ids = torch.arange(24).reshape(2, 12) % 7
    attention_mask = torch.ones_like(ids)
    attention_mask[1, 9:] = 0
    embedding_mask = attention_mask.clone()
    embedding_mask[:, 0] = 0
    with warnings.catch_warnings():
        # It warns of names of dynamic axes that three inputs share, which is on purpose.
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (ids, attention_mask, embedding_mask),
            input_names=[tensor.name for tensor in models.ENCODER.inputs],
            output_names=[models.EMBEDDINGS.name],
            dynamic_shapes=({0: "batch", 1: "tokens"},) * 3,
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    return graph


def _forget_provenance(graph: onnx.ModelProto) -> None:
    """Drops the exporter's notes: half a megabyte of stack traces with paths of the machine."""
    for message in (
        graph,
        graph.graph,
        *graph.graph.node,
        *graph.graph.value_info,
        *graph.graph.input,
        *graph.graph.output,
    ):
        del message.metadata_props[:]
        message.doc_string = ""
