"""The systems that `tridex compare` sets side by side, and what they are called.

bm25                BM25 over the texts, by the server
bi-encoder          one vector per text, in the command's own process (bi_encoder.py)
CODEC               exact MaxSim over a collection in that codec, by the server
CODEC+pool2         the same with one token kept for two
CODEC+candidates    MaxSim over the documents that centroids propose
CODEC+rerank        MaxSim over BM25's best
CODEC+hybrid        exact MaxSim and BM25, fused by reciprocal rank
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from tridex.client import CodecName
from tridex.common import TridexError

from .strategies import BI_ENCODER, BM25, EXACT, OF_CODECS, STRATEGIES, Strategy

BASE_CODEC = "float32"
"""What the encoder computes: collections in other codecs are made of one in this."""
CODECS: tuple[str, ...] = get_args(CodecName)

DEFAULT_BASELINE = "float16"
DEFAULT_SYSTEMS = (
    BM25,
    BI_ENCODER,
    *CODECS,
    *(f"{DEFAULT_BASELINE}+pool{factor}" for factor in (2, 3, 4)),
    f"{DEFAULT_BASELINE}+candidates",
    f"{DEFAULT_BASELINE}+hybrid",
)

_POOLED = re.compile(r"pool([2-9]|[1-5][0-9]|6[0-4])")


class UnknownSystemError(TridexError):
    """A system that is not known, or cannot be compared as asked. The message says what was expected."""


@dataclass(frozen=True)
class System:
    """A collection in one codec, and how its documents are ranked."""

    name: str
    codec: str
    """How the served collection stores token embeddings; of no matter to BM25 and the bi-encoder."""
    pooling_factor: int = 1
    strategy: str = EXACT
    """A name in `STRATEGIES`."""

    @property
    def ranking(self) -> Strategy:
        """What its strategy is."""
        return STRATEGIES[self.strategy]

    @property
    def stored(self) -> tuple[str, int]:
        """Codec and pooling factor of the collection that it ranks."""
        return self.codec, self.pooling_factor

    @property
    def is_served(self) -> bool:
        """Whether the server ranks."""
        return self.ranking.search_options is not None

    def collection(self, dataset: str) -> str:
        """The collection that it ranks, where one is made for it."""
        pooled = f"-pool{self.pooling_factor}" if self.pooling_factor > 1 else ""
        return f"{dataset}-{self.codec}{pooled}"


def parse_systems(names: Sequence[str]) -> list[System]:
    """Systems by their names. Raises UnknownSystemError."""
    systems = [_parse(name.strip()) for name in names]
    twice = [system.name for i, system in enumerate(systems) if system in systems[:i]]
    if twice:
        raise UnknownSystemError(f"system {twice[0]!r} is named twice; expected each once")
    return systems


def choose_baseline(systems: Sequence[System], name: str | None) -> str:
    """The named system, or where it is None float16 or else the first that ranks by token embeddings.

    Raises UnknownSystemError.
    """
    names = [system.name for system in systems]
    if name is None:
        by_embeddings = [system.name for system in systems if system.ranking.uses_embeddings]
        return DEFAULT_BASELINE if DEFAULT_BASELINE in names else [*by_embeddings, *names][0]
    if name not in names:
        raise UnknownSystemError(f"--baseline is {name!r}; expected one of the systems: {', '.join(names)}")
    return name


def _parse(name: str) -> System:
    if name in (BM25, BI_ENCODER):
        return System(name, BASE_CODEC, strategy=name)
    codec, *options = name.split("+")
    pooled = [match for option in options if (match := _POOLED.fullmatch(option))]
    strategies = [option for option in options if option in OF_CODECS]
    known = len(pooled) + len(strategies) == len(options)
    if codec not in CODECS or len(pooled) > 1 or len(strategies) > 1 or not known:
        raise UnknownSystemError(
            f"system {name!r} is not known; expected {BM25}, {BI_ENCODER}, or a codec ({', '.join(CODECS)}), perhaps "
            f"with +pool2 to +pool64 and +{', +'.join(OF_CODECS)}"
        )
    return System(name, codec, int(pooled[0][1]) if pooled else 1, strategies[0] if strategies else EXACT)
