"""Tokens to token embeddings on ONNX Runtime: the one place that knows its execution providers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tridex.protocol import models

from .artifact import Artifact
from .encoder import Encoder
from .errors import UnknownDeviceError
from .mapped_weights import with_mapped_weights
from .parity import check_against_the_cpu
from .tokenizer import WIDTH_MULTIPLE, TokenBatch

_CPU = ("CPUExecutionProvider",)


def create_encoder(
    artifact: Artifact,
    device: str = "cpu",
    *,
    threads: int = 1,
    tensorrt: bool = False,
    shared: Path | None = None,
) -> Encoder:
    """Loads an exported encoder into this process.

    Args:
        artifact: The export; its graph is loaded as it is, whoever verified it.
        device: Where the graph runs: "cpu", or "cuda" or "cuda:N" for a DeviceEncoder, on torch's current stream.
        threads: CPU cores that one call uses.
        tensorrt: Whether TensorRT runs the graph on a GPU; its libraries have to be installed. The first time it takes
            minutes; what it computes is compared with the CPU's.
        shared: On a CPU, a folder by which this machine's processes share the weights' memory (mapped_weights.py).

    Raises:
        UnknownDeviceError: The encoder cannot run on `device`.
        ProviderError: A provider cannot be loaded, or TensorRT computes something else.
    """
    if device == "cpu" and not tensorrt:
        graph = artifact.model_path if shared is None else with_mapped_weights(artifact.model_path, shared)
        return OnnxEncoder(graph, _CPU, threads)
    if not re.fullmatch("cuda(:[0-9]+)?", device):
        raise UnknownDeviceError(
            f"device is {device!r}", f"expected cpu, cuda or cuda:N{', with TensorRT one of the latter' * tensorrt}"
        )
    from .cuda_encoder import CudaEncoder  # needs torch, which takes two seconds to import

    if not tensorrt:
        return CudaEncoder(artifact.model_path, device, artifact.manifest.dim)
    widest = artifact.tokenizer().widest
    encoder = CudaEncoder(artifact.model_path, device, artifact.manifest.dim, tensorrt_tokens=widest)
    check_against_the_cpu(encoder, OnnxEncoder(artifact.model_path, _CPU, threads), artifact, "TensorRT")
    return encoder


class OnnxEncoder:
    """The exported graph, an Encoder.

    A text runs at a width that depends on its own length only, and every operation of the graph works
    token by token or within one text: results do not depend on the other texts of a batch. Safe to share between
    threads.
    """

    def __init__(self, model_path: Path, providers: Sequence[str], threads: int = 1) -> None:
        """`threads`: cores that one call uses; if they are all of this process's cores, threads are pinned to them."""
        # A single text is shared by all cores, operation by operation. Texts of one call run on a core each, so that no
        # core waits for another. On two cores, 16 queries took 2.8 ms per text and 16 documents 16.4; with every
        # operation shared by all cores 4.2 and 19.2 (int8: 1.4 and 8.8 against 2.1 and 11.3).
        self._alone = _session(model_path, providers, threads)
        self._together = _session(model_path, providers, 1) if threads > 1 else self._alone
        self._cores = ThreadPoolExecutor(threads, thread_name_prefix="encoder")
        self._threads = threads
        probe = np.ones((1, WIDTH_MULTIPLE), np.int64)
        self.dim: int = self._run(TokenBatch(probe, probe, probe), self._alone).shape[2]

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 [texts, tokens, dim], zero where the embedding mask is 0."""
        return self.encode_many([batch])[0]

    def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
        """Each batch's embeddings, float32 [texts, tokens, dim]; texts of different batches run together."""
        if len(batches) == 1 and _is_one_full_text(batches[0]):
            # As it is: what follows takes 30 us in a loop of its own, but 0.3 ms between runs of the graph, which evict
            # it from the caches.
            return [self._run(batches[0], self._alone)]
        outputs = [np.zeros((*batch.input_ids.shape, self.dim), np.float32) for batch in batches]
        texts = [(b, row) for b, batch in enumerate(batches) for row in range(len(batch.input_ids))]
        if not texts:
            return outputs
        widths = np.concatenate([batch.widths() for batch in batches])
        shares = _shares(widths, self._threads)
        session = self._together if len(shares) > 1 else self._alone

        def run(share: Sequence[NDArray[np.int64]]) -> None:
            for places in share:
                width = widths[places[0]]
                rows = [texts[place] for place in places]
                together = TokenBatch(
                    np.stack([batches[b].input_ids[row, :width] for b, row in rows]),
                    np.stack([batches[b].attention_mask[row, :width] for b, row in rows]),
                    np.stack([batches[b].embedding_mask[row, :width] for b, row in rows]),
                )
                for (b, row), embeddings in zip(rows, self._run(together, session), strict=True):
                    outputs[b][row, :width] = embeddings

        if len(shares) == 1:
            run(shares[0])
        else:
            list(self._cores.map(run, shares))
        return outputs

    @staticmethod
    def _run(batch: TokenBatch, session: onnxruntime.InferenceSession) -> NDArray[np.float32]:
        inputs = {
            models.INPUT_IDS.name: batch.input_ids,
            models.ATTENTION_MASK.name: batch.attention_mask,
            models.EMBEDDING_MASK.name: batch.embedding_mask,
        }
        (embeddings,) = session.run([models.EMBEDDINGS.name], inputs)
        return np.asarray(embeddings, np.float32)


def _session(model_path: Path, providers: Sequence[str], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads spin between operations and stop with the call: MaxSim comes next in the server and needs the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads > 1 and threads == len(cores := sorted(os.sched_getaffinity(0))):
        # One thread per core, the calling thread on the first. Unpinned, a thread that has slept wakes on the core
        # where the calling thread spins: a query of 16 tokens after a pause of 20 ms took 10 to 11 ms, pinned 4.6 to
        # 4.8.
        pinned = ";".join(str(core + 1) for core in cores[1:])
        options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
    return onnxruntime.InferenceSession(str(model_path), options, providers=list(providers))


def _shares(widths: NDArray[np.int64], threads: int) -> list[list[NDArray[np.int64]]]:
    """For each thread the texts of each of its runs: equally many tokens a thread, and equal widths a run.

    Each run reads all of the graph's weights, as much work as 8 tokens: so no width is divided but where a share ends.
    """
    order = np.argsort(widths, kind="stable")
    ends = np.cumsum(widths[order])
    share = ((2 * ends - widths[order]) * threads) // (2 * ends[-1])
    cuts = np.flatnonzero(np.diff(share) | np.diff(widths[order])) + 1
    runs = np.split(order, cuts)
    of_run = share[np.append(0, cuts)]
    return [[run for run, of in zip(runs, of_run, strict=True) if of == thread] for thread in np.unique(share)]


def _is_one_full_text(batch: TokenBatch) -> bool:
    """Whether this is one text at its own width: its last bucket is used."""
    texts, tokens = batch.input_ids.shape
    last = (tokens - 1) // WIDTH_MULTIPLE * WIDTH_MULTIPLE
    return texts == 1 and bool(batch.attention_mask[0, last:].any() or batch.embedding_mask[0, last:].any())
