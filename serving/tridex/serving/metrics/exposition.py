"""Joins the metrics of several processes: a family that more than one has is one in the answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class _Joined(Collector):
    def __init__(self, texts: Iterable[bytes]) -> None:
        self._texts = texts

    def collect(self) -> Iterator[Family]:
        families: dict[str, Family] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text.decode()):
                if family.name in families:
                    families[family.name].samples.extend(family.samples)
                else:
                    families[family.name] = family
        yield from families.values()


def join(texts: Iterable[bytes]) -> bytes:
    """The metrics of these texts as one. No series may be in two of them."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Joined(texts))
    return bytes(generate_latest(registry))
