"""Models that compute nothing on a GPU ask CUDA for nothing: a context would take half a gigabyte of it."""

from __future__ import annotations

import pytest
import torch

from tridex.serving.backend.service import Context, Service
from tridex.serving.models.catalog import CatalogService
from tridex.serving.models.ingest import IngestService


@pytest.mark.parametrize("service", [CatalogService, IngestService])
def test_cuda_is_not_initialised(context: Context, monkeypatch: pytest.MonkeyPatch, service: type[Service]) -> None:
    def refuse() -> None:
        raise AssertionError("CUDA was asked")

    for name in ("_lazy_init", "is_available", "device_count", "init"):
        monkeypatch.setattr(torch.cuda, name, refuse)
    service(context).close()
