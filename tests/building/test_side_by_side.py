"""A build tokenises and encodes the next documents while the ones before are committed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builds import build, rows_of, write
from device_encoders import HostDeviceEncoder
from numpy.typing import NDArray

from tridex.building import embedder
from tridex.encoding import Artifact, TokenBatch, Tokenizer, create_encoder
from tridex.index import Build, Store

DOCUMENTS = 60
"""In commits of ten (builds.py)."""
WITHIN_S = 60.0


@pytest.mark.parametrize("on_device", [False, True])
def test_a_commit_waits_for_the_documents_after_it(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    """The first transaction does not end before later documents are tokenised and encoded: a build that did one after
    the other would never get there."""
    committing, tokenised, encoded = threading.Event(), threading.Event(), threading.Event()
    read, append_rows = Tokenizer.read, Build.append_rows

    def tokenise(self: Tokenizer, *arguments: Any) -> Any:
        if committing.is_set():
            tokenised.set()
        return read(self, *arguments)

    def commit(self: Build, rows: pa.Table) -> None:
        committing.set()
        assert tokenised.wait(WITHIN_S) and encoded.wait(WITHIN_S)
        append_rows(self, rows)

    class Watched:
        """An encoder that tells when it is asked."""

        def __init__(self) -> None:
            self._encoder = create_encoder(artifact)

        def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
            return self.encode_many([batch])[0]

        def encode_many(self, batches: Sequence[TokenBatch]) -> list[NDArray[np.float32]]:
            if committing.is_set():
                encoded.set()
            return self._encoder.encode_many(batches)

    monkeypatch.setattr(embedder, "_CHARACTERS_HELD", 500)
    monkeypatch.setattr(Tokenizer, "read", tokenise)
    monkeypatch.setattr(Build, "append_rows", commit)
    source = write(tmp_path / "rows.jsonl", rows_of(DOCUMENTS))
    encoder = HostDeviceEncoder(Watched()) if on_device else Watched()
    done = build(source, Store(tmp_path / "store"), artifact, encoder=encoder)
    assert done.documents == DOCUMENTS
