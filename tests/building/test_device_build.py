"""A build whose embeddings stay where the encoder left them makes the collection that a build on the CPU makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builds import build, contents, rows_of, write
from device_encoders import HostDeviceEncoder

from tridex.encoding import Artifact, create_encoder
from tridex.index import Store
from tridex.kernels import Codec


@pytest.mark.parametrize(
    "options",
    [
        {"codec": Codec.FLOAT16},
        {"codec": Codec.INT8, "document_length": 24},
        {"codec": Codec.RESIDUAL4},
        {"codec": Codec.FLOAT32, "document_length": 24, "pooling_factor": 2},
    ],
)
def test_codes_made_where_the_embeddings_are_have_the_same_bits(
    artifact: Artifact, tmp_path: Path, options: dict[str, Any]
) -> None:
    source, store = write(tmp_path / "rows.jsonl", rows_of(45)), Store(tmp_path / "store")
    build(source, store, artifact, name="host", **options)
    build(source, store, artifact, name="device", encoder=HostDeviceEncoder(create_encoder(artifact)), **options)
    host, device = contents(store.open("host")), contents(store.open("device"))
    assert len(host) == 45
    assert device == host
