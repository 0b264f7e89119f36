"""Hostile calls, and the ways in which they are sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

BIG_MESSAGE = 16 * 1024
"""Bytes from which on a request may be as much work as its sender waits for."""


@dataclass(frozen=True)
class Attack:
    """One hostile call."""

    number: int
    what: str
    method: str = "ModelInfer"
    messages: tuple[bytes, ...] = ()
    """Serialised; several in a stream."""
    deadline_s: float = 30.0
    cancel_after_s: float | None = None
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def is_big(self) -> bool:
        """Whether it may take as long as its sender waits, and needs the room for it alone."""
        return sum(map(len, self.messages)) > BIG_MESSAGE

    @property
    def may_end_early(self) -> bool:
        """Whether its sender leaves before the answer."""
        return self.is_big or self.deadline_s < 1 or self.cancel_after_s is not None

    def __str__(self) -> str:
        return f"attack {self.number}, {self.method}: {self.what}"


Way = Callable[[Random, Attack], Attack]
WAYS: dict[str, Way] = {}
"""Of sending an attack."""


def _way(send: Way) -> Way:
    WAYS[send.__name__.strip("_").replace("_", " ")] = send
    return send


@_way
def _as_it_is(_rng: Random, attack: Attack) -> Attack:
    return attack


@_way
def _cancelled(rng: Random, attack: Attack) -> Attack:
    return replace(attack, cancel_after_s=rng.choice((0.0, 0.002, 0.02)))


@_way
def _with_a_short_deadline(rng: Random, attack: Attack) -> Attack:
    return replace(attack, deadline_s=rng.choice((0.001, 0.01, 0.05)))


@_way
def _with_odd_metadata(rng: Random, attack: Attack) -> Attack:
    sets = (
        tuple((f"x-{i}", "v" * 100) for i in range(rng.choice((10, 70, 500)))),
        (("x-long", "v" * rng.choice((4000, 100_000))),),
        (("triton-grpc-protocol-key", "guess"), ("triton-grpc-protocol-key", "again")),
        (("traceparent", "00-zz-0-"), ("tracestate", "=,=,"), ("authorization", "Bearer x")),
    )
    return replace(attack, metadata=rng.choice(sets))


@_way
def _damaged(rng: Random, attack: Attack) -> Attack:
    """Bytes that are not quite the request, or no request at all."""
    (message,) = attack.messages
    damaged = bytearray(message)
    for _ in range(rng.choice((1, 1, 8))):
        damaged[rng.randrange(min(len(damaged), 500))] ^= 1 << rng.randrange(8)
    cut = message[: rng.randrange(len(message))]
    return replace(attack, messages=(rng.choice((bytes(damaged), cut, rng.randbytes(200), b"\xff" * 99)),))


@_way
def _in_a_stream(rng: Random, attack: Attack) -> Attack:
    return replace(
        attack,
        method="ModelStreamInfer",
        messages=attack.messages * (1 if attack.is_big else rng.choice((1, 1, 2, 8))),
        cancel_after_s=rng.choice((None, None, 0.0, 0.01)),
    )
