"""Tokens to token embeddings on a CUDA device, by ONNX Runtime on torch's stream and in torch's memory.

Imported only where a CUDA device is asked for: it needs torch, which the encoder on a CPU does without.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from tridex.common.cuda_graphs import record
from tridex.protocol import limits, models

from .errors import UnknownDeviceError
from .providers import load_cuda_provider, load_tensorrt_provider
from .scoring_tokens import scoring_tokens
from .small_batches import small_batches
from .tokenizer import TokenBatch

_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_WIDTHS = (16, 32, 48, 64)
"""Texts and tokens of the shapes that have a CUDA graph; a batch runs at the smallest that holds it."""

_TOKENS_PER_RUN = 1 << 14
_TEXTS_PER_RUN = 256
"""Of a run without a graph: 256 documents of 256 tokens took 17.9 ms on an H200, 64 of them 5.0, as much each."""

_RUNS_BEFORE = 2
"""Of a shape before it is captured: in the first ONNX Runtime learns what memory it needs, in the second takes it."""

_TOLERANCE = 1e-3
"""Of a graph's embeddings, whose largest number is 1: it launches the same kernels, of which few add in any order."""

_TENSORRT_TYPICAL = (16, 64)
"""Texts and tokens that TensorRT chooses its kernels for."""

_log = logging.getLogger(__name__)

_INPUTS = tuple(tensor.name for tensor in models.ENCODER.inputs)


@dataclass(frozen=True)
class _Shape:
    """A captured shape: the graph reads and writes the same memory every time."""

    tokens: torch.Tensor
    """int64 [inputs, texts, tokens] on the device."""
    embeddings: torch.Tensor
    """float32 [texts, tokens, dim] on the device."""
    graph: torch.cuda.CUDAGraph


class CudaEncoder:
    """The exported graph on a CUDA device, a DeviceEncoder. Thread-safe.

    Texts of a call run together, padded. Products of a GPU's libraries depend on the shape, so a text's embeddings
    differ in their last bits with what else is in its batch.
    """

    def __init__(self, model_path: Path, device: str, dim: int, *, tensorrt_tokens: int = 0) -> None:
        """Works on torch's current stream of the device, or on one of its own where that is the default one.

        Args:
            model_path: The exported graph.
            device: "cuda" or "cuda:N".
            dim: Of a token embedding.
            tensorrt_tokens: Where TensorRT is to run the graph, most tokens of a text: it compiles the graph for a
                range of shapes, and keeps the engine beside the graph. 0 for ONNX Runtime's own kernels.

        Raises:
            UnknownDeviceError: ONNX Runtime cannot run the graph there.
            ProviderError: A library is missing.
        """
        index = int(device.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UnknownDeviceError(
                f"device is {device!r}", f"expected one of the {torch.cuda.device_count()} CUDA devices that torch sees"
            )
        self._device = torch.device("cuda", index)
        stream = torch.cuda.current_stream(self._device)
        if stream == torch.cuda.default_stream(self._device):
            # Nothing can be captured on it, and ONNX Runtime takes its address, 0, for none given.
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._stream = stream
        self._dim = dim
        self._lock = threading.Lock()
        self._options = _asynchronous()
        self._shapes: dict[tuple[int, int], _Shape] = {}
        self._model_path = model_path
        self._captures = not tensorrt_tokens
        self._texts_per_run = limits.MAX_BATCH if tensorrt_tokens else _TEXTS_PER_RUN
        provider = "TensorrtExecutionProvider" if tensorrt_tokens else "CUDAExecutionProvider"
        (load_tensorrt_provider if tensorrt_tokens else load_cuda_provider)()  # ONNX Runtime would take the CPU
        try:
            self._session = self._new_session(*self._tensorrt(tensorrt_tokens))
        except Exception as error:  # whatever the graph has that cannot be captured: it runs without
            if tensorrt_tokens:
                raise UnknownDeviceError(
                    f"TensorRT cannot run the encoder on {device}: {_one_line(error)}", "serve without --tensorrt"
                ) from error
            self._go_without_graphs(error)
        if provider not in self._session.get_providers():
            raise UnknownDeviceError(
                f"ONNX Runtime's {provider} does not take {device}, and logs why",
                f"`tridex doctor --device {device}` says what is missing",
            )

    def capture(self, widest: int) -> None:
        """Captures a CUDA graph for each shape of up to so many tokens; without, `encode_on_device` launches one by one
        what the graph consists of. Takes seconds, in which nothing else may use the stream."""
        if not self._captures:
            return
        widths = [width for width in _WIDTHS if width < widest + _WIDTHS[0]]
        # The largest first, whose memory the others find.
        shapes = [(batch, width) for batch in reversed(_BATCHES) for width in reversed(widths)]
        with self._lock, torch.cuda.stream(self._stream):
            try:
                for shape in shapes:
                    self._shapes[shape] = self._captured(*shape)
                # When all are, so that each has seen others write to the memory that it shares with them.
                for captured in self._shapes.values():
                    self._check(captured)
            except Exception as error:  # as ONNX Runtime's, which has no classes of them
                self._stream.synchronize()  # raises where the device itself has failed
                self._go_without_graphs(error)
            self._stream.synchronize()

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 [texts, tokens, dim], zero where the embedding mask is 0."""
        return self.encode_many([batch])[0]

    def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        """Each batch's embeddings, float32 [texts, tokens, dim]."""
        with torch.cuda.stream(self._stream):
            copies = [(members, run.to("cpu", non_blocking=True)) for members, run in self._runs(batches)]
            self._stream.synchronize()
        found: dict[int, NDArray[np.float32]] = {}
        for members, copy in copies:
            embeddings, end = copy.numpy(), 0
            for i in members:
                texts, tokens = batches[i].input_ids.shape
                found[i] = embeddings[end : end + texts, :tokens]
                end += texts
        return [found[i] for i in range(len(batches))]

    def encode_scoring(self, batches: Sequence[TokenBatch]) -> torch.Tensor:
        """The embeddings that score, of all texts in their order: float32 [tokens, dim] on the device.

        Waits until they are there, so that any stream may read them.
        """
        with torch.cuda.stream(self._stream):
            scoring = scoring_tokens(self.encode_on_device(batches), [batch.embedding_mask for batch in batches])
        self._stream.synchronize()
        return scoring

    def encode_on_device(self, batches: Sequence[TokenBatch]) -> list[torch.Tensor]:
        """Each batch's embeddings on the device, float32 [texts, tokens or more, dim], zeros behind a batch's tokens.

        Waits for nothing: they are to be read on the stream that the encoder works on.
        """
        found: dict[int, torch.Tensor] = {}
        for members, run in self._runs(batches):
            found.update(zip(members, torch.split(run, [len(batches[i].input_ids) for i in members]), strict=True))
        return [found[i] for i in range(len(batches))]

    def _runs(self, batches: Sequence[TokenBatch]) -> list[tuple[list[int], torch.Tensor]]:
        """Which batches run together, and their texts' embeddings one batch after the other."""
        texts, widths = np.array([batch.input_ids.shape for batch in batches], np.int64).reshape(-1, 2).T
        together = [run.tolist() for run in small_batches(widths, _TOKENS_PER_RUN, self._texts_per_run, texts)]
        with self._lock, torch.cuda.stream(self._stream):
            return [(members, self._run([batches[i] for i in members])) for members in together]

    def _run(self, batches: Sequence[TokenBatch]) -> torch.Tensor:
        """All texts in one run: float32 [texts, tokens or more, dim]."""
        texts = sum(len(batch.input_ids) for batch in batches)
        width = max(batch.input_ids.shape[1] for batch in batches)
        shape = self._shape(texts, width)
        rows, tokens = shape.tokens.shape[1:] if shape else (texts, width)
        host = torch.zeros((len(_INPUTS), rows, tokens), dtype=torch.int64, pin_memory=True)
        array = host.numpy()
        array[1, texts:, 0] = 1  # Attention over nothing would be 0 / 0.
        end = 0
        for batch in batches:
            first, end = end, end + len(batch.input_ids)
            here = slice(first, end), slice(batch.input_ids.shape[1])
            array[(0, *here)], array[(1, *here)] = batch.input_ids, batch.attention_mask
            array[(2, *here)] = batch.embedding_mask
        if shape:
            shape.tokens.copy_(host, non_blocking=True)
            shape.graph.replay()
            # The next run of this shape writes over it.
            return shape.embeddings[:texts].clone()
        on_device = host.to(self._device, non_blocking=True)
        embeddings = torch.empty((rows, tokens, self._dim), dtype=torch.float32, device=self._device)
        self._session.run_with_iobinding(self._bound(on_device, embeddings), self._options)
        return embeddings

    def _shape(self, texts: int, width: int) -> _Shape | None:
        """The smallest captured shape that holds so many texts of so many tokens."""
        batch = next((size for size in _BATCHES if size >= texts), 0)
        tokens = next((size for size in _WIDTHS if size >= width), 0)
        return self._shapes.get((batch, tokens))

    def _captured(self, batch: int, width: int) -> _Shape:
        tokens = torch.ones((len(_INPUTS), batch, width), dtype=torch.int64, device=self._device)
        embeddings = torch.empty((batch, width, self._dim), dtype=torch.float32, device=self._device)
        run = partial(self._session.run_with_iobinding, self._bound(tokens, embeddings), self._options)
        for _ in range(_RUNS_BEFORE):
            run()
        self._stream.synchronize()
        graph, _ = record(run)
        return _Shape(tokens, embeddings, graph)

    def _check(self, shape: _Shape) -> None:
        """Raises RuntimeError where a graph computes anything else than the session does, of other tokens than those
        that it was captured with."""
        _, batch, width = shape.tokens.shape
        numbers = torch.arange(batch * width).reshape(batch, width)
        attended = (torch.arange(width) <= torch.arange(batch)[:, None]).long()
        shape.tokens.copy_(torch.stack([numbers % 7, attended, attended]))
        shape.embeddings.fill_(torch.nan)
        shape.graph.replay()
        found = shape.embeddings.clone()
        self._session.run_with_iobinding(self._bound(shape.tokens, shape.embeddings), self._options)
        if not torch.allclose(found, shape.embeddings, rtol=0, atol=_TOLERANCE):
            raise RuntimeError(f"the graph for {batch} texts of {width} tokens computes something else than they are")

    def _bound(self, tokens: torch.Tensor, embeddings: torch.Tensor) -> onnxruntime.IOBinding:
        """Inputs and output bound to torch's memory."""
        binding = self._session.io_binding()
        where = ("cuda", self._device.index)
        for name, tensor in zip(_INPUTS, tokens, strict=True):
            binding.bind_input(name, *where, np.int64, tuple(tensor.shape), tensor.data_ptr())
        binding.bind_output(models.EMBEDDINGS.name, *where, np.float32, tuple(embeddings.shape), embeddings.data_ptr())
        return binding

    def _go_without_graphs(self, error: Exception) -> None:
        _log.warning(
            "no CUDA graph of the encoder can be captured, so its operations are launched one by one: some 1 ms more "
            "for each batch of searches (%s)",
            error,
        )
        self._captures = False
        self._shapes.clear()
        try:
            self._session = self._new_session()
        except Exception as again:
            raise UnknownDeviceError(
                f"ONNX Runtime cannot run the encoder on {self._device}: {_one_line(again)}",
                f"`tridex doctor --device {self._device}` says what is missing",
            ) from again

    def _new_session(self, *preferred: tuple[str, dict[str, str]]) -> onnxruntime.InferenceSession:
        # With it, ONNX Runtime refuses what it would run on the CPU in part, or copy from there. It is to capture
        # nothing by itself (_asynchronous): its graphs are the capturing thread's alone, and fail where another thread
        # allocates meanwhile.
        cuda = ("CUDAExecutionProvider", {**self._where(), "enable_cuda_graph": str(int(self._captures))})
        # With its fallback, it would take the CPU where a provider fails, and only print why.
        return onnxruntime.InferenceSession(str(self._model_path), providers=[*preferred, cuda], enable_fallback=0)

    def _where(self) -> dict[str, str]:
        """A provider's options for the device and the stream."""
        return {"device_id": str(self._device.index), "user_compute_stream": str(self._stream.cuda_stream)}

    def _tensorrt(self, most_tokens: int) -> list[tuple[str, dict[str, str]]]:
        """TensorRT's provider, for texts of up to so many tokens; none for 0."""
        if not most_tokens:
            return []
        texts, tokens = _TENSORRT_TYPICAL
        shapes = {
            "min": (1, 1),
            "opt": (texts, min(tokens, most_tokens)),
            "max": (self._texts_per_run, most_tokens),
        }
        ranges = {
            f"trt_profile_{which}_shapes": ",".join(f"{name}:{texts}x{tokens}" for name in _INPUTS)
            for which, (texts, tokens) in shapes.items()
        }
        engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(self._model_path.parent)}
        return [("TensorrtExecutionProvider", {**self._where(), **engines, **ranges})]


def _asynchronous() -> onnxruntime.RunOptions:
    """Of a run that no thread waits for, and of which ONNX Runtime captures no graph."""
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", "-1")
    return options


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
