"""Hostile calls, one after another: each follows from a seed and its number alone.

A request that could be right is changed in one place or in several, and sent in one of many ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import hostile_values as values
from control_calls import INFERENCE, SERVICE
from fuzz_attacks import BIG_MESSAGE, WAYS, Attack
from fuzz_mutations import MUTATIONS, WEIGHTS
from fuzz_requests import REACHABLE, SERVED, Requests, Served
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from tridex.protocol import models

_CONTROL = tuple(method for method in SERVICE.methods if method.name not in INFERENCE)
_ENCODING = (models.ENCODE_QUERY, models.ENCODE_DOCUMENT, models.RERANK)
_MODEL_WEIGHTS = [1 if model in _ENCODING else 2 for model in REACHABLE]
"""Models that take little but text are asked less: they understand most of what they get, and work on it."""


class Fuzzer:
    """Makes attacks of what `requests` makes."""

    def __init__(self, seed: int, requests: Requests) -> None:
        self._seed = seed
        self._requests = requests

    def attacks(self, count: int) -> Iterator[Attack]:
        """Every change of every model and every way of sending once, then at random."""
        systematic: list[tuple[Served, str, str]] = [
            (model, mutation, "as it is") for model in REACHABLE for mutation in MUTATIONS
        ]
        systematic += [(model, "nothing", way) for model in REACHABLE for way in WAYS]
        for number in range(count):
            rng = Random(f"{self._seed}-{number}")
            if number < len(systematic):
                model, mutation, way = systematic[number]
                yield self._attack(rng, number, model, [mutation], way)
            elif rng.random() < 0.03:
                yield self._control_call(rng, number)
            else:
                (model,) = rng.choices(REACHABLE, _MODEL_WEIGHTS)
                changes = rng.choices(list(MUTATIONS), WEIGHTS, k=rng.choice((1, 1, 1, 2, 3)))
                way = rng.choice(list(WAYS)) if rng.random() < 0.2 else "as it is"
                yield self._attack(rng, number, model, changes, way)

    def _attack(self, rng: Random, number: int, model: Served, mutations: list[str], way: str) -> Attack:
        request = self._requests(rng, model)
        for name in mutations:
            MUTATIONS[name](rng, request)
        if request.ByteSize() > BIG_MESSAGE:
            # Work that its sender gives up soon, so that the rest is not kept waiting.
            request.parameters["timeout"].Clear()
            request.parameters["timeout"].int64_param = 500_000
        what = f"{model.name}, {' + '.join(mutations)}, {way}"
        return WAYS[way](rng, Attack(number, what, messages=(request.SerializeToString(),)))

    def _control_call(self, rng: Random, number: int) -> Attack:
        method = rng.choice(_CONTROL)
        message = _filled(rng, getattr(pb, method.input_type.name)(), 3)
        return Attack(number, "control", method.name, (message.SerializeToString(),))


def _filled(rng: Random, message: Message, depth: int) -> Message:
    """A message whose fields hold anything."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.3:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if depth:
                entry = field.message_type.fields_by_name["value"]
                key = rng.choice(("", "config", "log_file", "trace_level", "x"))
                if entry.message_type is not None:
                    _filled(rng, getattr(message, field.name)[key], depth - 1)
                else:
                    getattr(message, field.name)[key] = _scalar(rng, entry)
        elif field.is_repeated:
            getattr(message, field.name).extend(
                [_scalar(rng, field) for _ in range(rng.randrange(3))] if field.message_type is None else []
            )
        elif field.message_type is not None:
            if depth:
                _filled(rng, getattr(message, field.name), depth - 1)
        else:
            setattr(message, field.name, _scalar(rng, field))
    return message


def _scalar(rng: Random, field: FieldDescriptor) -> Any:
    strings = ("", "x", " ", "1", "-1", "ü", "no-such-model", *(model.name for model in SERVED))
    by_type = {
        FieldDescriptor.TYPE_STRING: lambda: rng.choice(strings),
        FieldDescriptor.TYPE_BYTES: lambda: rng.randbytes(rng.choice((0, 8, 64))),
        FieldDescriptor.TYPE_BOOL: lambda: rng.random() < 0.5,
        FieldDescriptor.TYPE_DOUBLE: lambda: rng.choice(values.FLOATS),
        FieldDescriptor.TYPE_FLOAT: lambda: rng.choice((0.0, 1.5)),
        FieldDescriptor.TYPE_INT64: lambda: rng.choice((0, 8, -1, 2**62)),
        FieldDescriptor.TYPE_INT32: lambda: rng.choice((0, 1, -1)),
    }
    return by_type.get(field.type, lambda: rng.choice((0, 1, 2**31)))()
