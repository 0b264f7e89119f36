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
from .errors import ProviderError, UnknownDeviceError
from .providers import load_cuda_provider
from .tokenizer import TokenBatch

_Providers = Sequence[str | tuple[str, dict[str, str]]]
"""ONNX Runtime's execution providers, the preferred one first, with their options."""

_BUCKET = 8
"""Texts whose lengths round up to the same multiple of this many tokens run together. Measured with MiniLM on one core,
ms per text, as one padded batch / each alone / equal lengths together / multiples of 4 / of 8: 4 queries of 6 to 16
tokens 3.7 / 4.6 / 4.0 / 4.3 / 3.7 (int8 1.9 / 2.4 / 2.0 / 2.1 / 1.9), 16 queries 4.0 / 5.0 / 4.0 / 3.5 / 3.7, 16
documents of 20 to 200 tokens 68 / 31 / 32 / 31 / 31 (int8 38 / 16 / 16 / 17 / 16)."""


def create_encoder(artifact: Artifact, device: str = "cpu", *, threads: int = 1) -> Encoder:
    """Loads an exported encoder into this process.

    Args:
        artifact: The export; its graph is loaded as it is, whoever verified it.
        device: Where the graph runs: "cpu" or "cuda:N".
        threads: CPU cores that one call uses.

    Raises:
        UnknownDeviceError: The encoder has no execution provider for `device`.
        ProviderError: The provider cannot be loaded.
    """
    if device == "cpu":
        return OnnxEncoder(artifact.model_path, ["CPUExecutionProvider"], threads)
    if match := re.fullmatch("cuda:([0-9]+)", device):
        load_cuda_provider()
        return OnnxEncoder(artifact.model_path, [("CUDAExecutionProvider", {"device_id": match[1]})])
    raise UnknownDeviceError(f"device is {device!r}; expected cpu or cuda:N")


class OnnxEncoder:
    """The exported graph, an Encoder.

    A text runs at a width that depends on its own length only, and every operation of the graph works
    token by token or within one text: results do not depend on the other texts of a batch. Safe to share between
    threads.
    """

    def __init__(self, model_path: Path, providers: _Providers, threads: int = 1) -> None:
        """`threads`: cores that one call uses; if they are all of this process's cores, threads are pinned to them."""
        # A single text is shared by all cores, operation by operation. Texts of one call run on a core each, so that no
        # core waits for another. On two cores, 16 queries took 2.8 ms per text and 16 documents 16.4; with every
        # operation shared by all cores 4.2 and 19.2 (int8: 1.4 and 8.8 against 2.1 and 11.3).
        self._alone = _session(model_path, providers, threads)
        self._together = _session(model_path, providers, 1) if threads > 1 else self._alone
        self._cores = ThreadPoolExecutor(threads, thread_name_prefix="encoder")
        self._threads = threads
        probe = np.ones((1, _BUCKET), np.int64)
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
        buckets: dict[int, list[tuple[int, int]]] = {}
        for b, batch in enumerate(batches):
            for row, width in enumerate(_widths(batch)):
                buckets.setdefault(width, []).append((b, row))
        jobs = [(width, share) for width, rows in buckets.items() for share in _shares(rows, self._threads)]
        session = self._together if len(jobs) > 1 else self._alone

        def run(job: tuple[int, list[tuple[int, int]]]) -> None:
            width, rows = job
            together = TokenBatch(
                np.stack([batches[b].input_ids[row, :width] for b, row in rows]),
                np.stack([batches[b].attention_mask[row, :width] for b, row in rows]),
                np.stack([batches[b].embedding_mask[row, :width] for b, row in rows]),
            )
            for (b, row), embeddings in zip(rows, self._run(together, session), strict=True):
                outputs[b][row, :width] = embeddings

        # The longest first, so that no core is left with much work at the end.
        jobs.sort(key=lambda job: job[0] * len(job[1]), reverse=True)
        if len(jobs) == 1:
            run(jobs[0])
        else:
            list(self._cores.map(run, jobs))
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


def _session(model_path: Path, providers: _Providers, threads: int) -> onnxruntime.InferenceSession:
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
    session = onnxruntime.InferenceSession(str(model_path), options, providers=list(providers))
    wanted = [provider if isinstance(provider, str) else provider[0] for provider in providers]
    if session.get_providers()[0] != wanted[0]:  # it has logged why, and taken the CPU
        raise ProviderError(f"ONNX Runtime cannot run the encoder by {wanted[0]}; `tridex doctor` may say why")
    return session


def _shares(rows: list[tuple[int, int]], threads: int) -> list[list[tuple[int, int]]]:
    """The texts of one width, divided evenly among the threads."""
    shares = min(threads, len(rows))
    return [rows[i::shares] for i in range(shares)]


def _is_one_full_text(batch: TokenBatch) -> bool:
    """Whether this is one text at the width of `_widths`: its last bucket is used."""
    texts, tokens = batch.input_ids.shape
    last = (tokens - 1) // _BUCKET * _BUCKET
    return texts == 1 and bool(batch.attention_mask[0, last:].any() or batch.embedding_mask[0, last:].any())


def _widths(batch: TokenBatch) -> list[int]:
    """The width that each text runs at. Expansion tokens count, although the attention may not see them."""
    used = (batch.attention_mask != 0) | (batch.embedding_mask != 0)
    tokens = used.shape[1]
    lengths = np.where(used.any(axis=1), tokens - np.argmax(used[:, ::-1], axis=1), 1)
    widths: list[int] = np.minimum(-(-lengths // _BUCKET) * _BUCKET, tokens).tolist()
    return widths
