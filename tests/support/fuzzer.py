"""Hostile requests to every model that callers can name, made of what tridex.protocol says of the models.

A request that could be right is changed in one place or in several, and sent in one of many ways. All of it follows
from a seed and the request's number. What writes is given other collections than `victim`, so that nobody is harmed
by what the protocol allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from math import prod
from random import Random
from typing import Any

import hostile_values as values
import kserve
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2 as pb

from tridex.protocol import limits, models, parameters
from tridex.protocol.tensors import DType, Ensemble, Model, Tensor

Served = Model | Ensemble

SERVED: tuple[Served, ...] = (*models.MODELS, *models.ENSEMBLES)
REACHABLE = tuple(model for model in SERVED if not (isinstance(model, Model) and model.internal))
WRITERS = (models.INGEST,)
"""Models that are never asked about the victim."""

_SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_CONTROL = tuple(method for method in _SERVICE.methods if method.name not in ("ModelInfer", "ModelStreamInfer"))
READS = (
    *("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelStatistics"),
    *("SystemSharedMemoryStatus", "CudaSharedMemoryStatus", "RepositoryIndex", "ModelConfig"),
)
"""Calls that change nothing; the others may be refused only."""

PARAMETERS = tuple(
    value
    for name, value in vars(parameters).items()
    if name.isupper() and isinstance(value, str) and not name.startswith("DEFAULT")
)
_OPERATIONS = (parameters.IngestOperation, parameters.CatalogOperation)
_UPSERT, _DELETE = parameters.IngestOperation.UPSERT, parameters.IngestOperation.DELETE
_USUAL: dict[str, tuple[Enum, ...]] = {
    models.INGEST.name: (*parameters.IngestOperation, *[_UPSERT] * 6, _DELETE, _DELETE),
    models.CATALOG.name: tuple(parameters.CatalogOperation),
}
_CHOICES = (*_OPERATIONS, parameters.LongDocuments)
WORDS = (
    *(str(member.value) for kind in _CHOICES for member in kind),
    *parameters.SEARCH_MODES,
    "float16",
    "int8",
    "residual2",
    "0.5",
)

_BIG_MESSAGE = 16 * 1024
"""Bytes from which on a request may be as much work as its sender waits for."""

Mutation = Callable[[Random, pb.ModelInferRequest], None]


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
        return sum(map(len, self.messages)) > _BIG_MESSAGE

    @property
    def may_end_early(self) -> bool:
        """Whether its sender leaves before the answer."""
        return self.is_big or self.deadline_s < 1 or self.cancel_after_s is not None

    def __str__(self) -> str:
        return f"attack {self.number}, {self.method}: {self.what}"


class Fuzzer:
    """Makes attacks. `own` are collections to write to; `dim` is that of the served encoder."""

    def __init__(self, seed: int, victim: str, own: tuple[str, ...], dim: int, *, control_is_closed: bool) -> None:
        self._seed = seed
        self._victim = victim
        self._own = own
        self._dim = dim
        self._control = [method for method in _CONTROL if control_is_closed or method.name in READS]
        # Not with a zero byte at the end: Triton server reads no further.
        near = (victim.upper(), victim[:-1], victim + "-", f" {victim}", f"{victim}\n", f"\0{victim}", f"{victim}/..")
        self._near = (*near, "\uff43" + victim[1:])

    def attacks(self, count: int) -> Iterator[Attack]:
        """Every change of every model and every way of sending once, then at random."""
        systematic: list[tuple[Served, str, str]] = [
            (model, mutation, "as it is") for model in REACHABLE for mutation in _MUTATIONS
        ]
        systematic += [(model, "nothing", way) for model in REACHABLE for way in _WAYS]
        for number in range(count):
            rng = Random(f"{self._seed}-{number}")
            if number < len(systematic):
                model, mutation, way = systematic[number]
                yield self._attack(rng, number, model, [mutation], way)
            elif rng.random() < 0.03:
                yield self._control_call(rng, number)
            else:
                changes = rng.choices(list(_MUTATIONS), _WEIGHTS, k=rng.choice((1, 1, 1, 2, 3)))
                way = rng.choice(list(_WAYS)) if rng.random() < 0.2 else "as it is"
                yield self._attack(rng, number, rng.choice(REACHABLE), changes, way)

    def _attack(self, rng: Random, number: int, model: Served, mutations: list[str], way: str) -> Attack:
        request = self._request(rng, model)
        for name in mutations:
            _MUTATIONS[name](rng, request)
        if request.ByteSize() > _BIG_MESSAGE:
            # Work that its sender gives up soon, so that the rest is not kept waiting.
            request.parameters["timeout"].Clear()
            request.parameters["timeout"].int64_param = 500_000
        what = f"{model.name}, {' + '.join(mutations)}, {way}"
        return _WAYS[way](rng, Attack(number, what, messages=(request.SerializeToString(),)))

    def _request(self, rng: Random, model: Served) -> pb.ModelInferRequest:
        """A request that the model might answer."""
        request = pb.ModelInferRequest(model_name=model.name)
        rows = rng.choice((1, 1, 1, 1, 2, 3, model.max_batch_size) if rng.random() < 0.3 else (1,))
        chosen = _chosen(rng, model)
        for tensor in model.inputs:
            if not tensor.optional or tensor.name in chosen:
                _add(rng, request, tensor, rows, self._dim)
        for tensor in model.outputs:
            if rng.random() < 0.8:
                request.outputs.add().name = tensor.name
        names = self._own if model in WRITERS else (*self._own, self._victim, self._victim)
        said: dict[str, Any] = {
            parameters.COLLECTION: rng.choice(self._near if rng.random() < 0.1 else names),
            parameters.OPERATION: rng.choice(self._operations(rng, model)).value,
        }
        if parameters.ALIAS in rng.sample(PARAMETERS, len(PARAMETERS) // 2):
            said[parameters.ALIAS] = rng.choice((*self._own, *self._near))
        if rng.random() < 0.3:
            said["timeout"] = 5_000_000
        for name, value in said.items():
            kserve.set_parameter(request.parameters[name], value)
        return request

    def _operations(self, rng: Random, model: Served) -> tuple[Enum, ...]:
        """Mostly those that the model has, where they are known."""
        return _USUAL[model.name] if model.name in _USUAL and rng.random() < 0.9 else tuple(rng.choice(_OPERATIONS))

    def _control_call(self, rng: Random, number: int) -> Attack:
        method = rng.choice(self._control)
        message = _filled(rng, getattr(pb, method.input_type.name)(), 3)
        return Attack(number, "control", method.name, (message.SerializeToString(),))


def _chosen(rng: Random, model: Served) -> list[str]:
    """Some of the optional inputs: often those that an ensemble gives together."""
    optional = [tensor.name for tensor in model.inputs if tensor.optional]
    groups = [list(step.input_map) for ensemble in models.ENSEMBLES for step in ensemble.steps if step.model is model]
    if groups and rng.random() < 0.8:
        optional = rng.choice(groups)
    return rng.sample(optional, rng.randrange(len(optional)) + 1) if optional else []


def _add(rng: Random, request: pb.ModelInferRequest, tensor: Tensor, rows: int, dim: int) -> None:
    """Adds an input that is as the protocol says, but for its values."""
    lengths = [rng.choice((0, 1, 1, 1, 1, 2, 8)) if length < 0 else length for length in tensor.shape]
    if tensor.dtype is DType.FP32 and rng.random() < 0.9:
        lengths[-1] = dim
    shape = (rows, *lengths)
    if tensor.dtype is DType.STRING:
        json_wanted = tensor.name == models.DOCUMENT_METADATA.name
        raw = kserve.strings(values.text(rng, json_wanted) for _ in range(prod(shape)))
    elif tensor.dtype is DType.FP32:
        raw = values.floats(rng, shape).tobytes()
    else:
        raw = values.integers(rng, shape).tobytes()
    kserve.add_input(request, tensor.name, tensor.dtype.value, shape, raw)


def _any(rng: Random, request: pb.ModelInferRequest, dtype: str = "") -> int | None:
    """The place of an input that has its bytes, perhaps of this type alone; None where there is none."""
    whole = list(zip(request.inputs, request.raw_input_contents, strict=False))
    places = [place for place, (tensor, _) in enumerate(whole) if dtype in ("", tensor.datatype)]
    return rng.choice(places) if places else None


_MUTATIONS: dict[str, Mutation] = {}
_WEIGHTS: list[float] = []


def _mutation(weight: float = 1.0) -> Callable[[Mutation], Mutation]:
    """`weight`: how often the change is made; what Triton server refuses by itself is worth less."""

    def registered(change: Mutation) -> Mutation:
        _MUTATIONS[change.__name__.strip("_").replace("_", " ")] = change
        _WEIGHTS.append(weight)
        return change

    return registered


@_mutation(8)
def _nothing(_rng: Random, _request: pb.ModelInferRequest) -> None:
    pass


@_mutation()
def _another_model(rng: Random, request: pb.ModelInferRequest) -> None:
    name = request.model_name
    internal = [model.name for model in SERVED if model not in REACHABLE]
    others = [
        "",
        " ",
        "nope",
        f"{name} ",
        name.upper(),
        f"{name}/1",
        f"../{name}",
        f"{name}\0",
        f"{name},",
        "ü",
        "x" * 9999,
    ]
    request.model_name = rng.choice(internal * 3 + others)


@_mutation()
def _another_version(rng: Random, request: pb.ModelInferRequest) -> None:
    request.model_version = rng.choice(("0", "1", "2", "-1", "9" * 30, "x", " ", "1.0", "\0"))


@_mutation()
def _odd_request_id(rng: Random, request: pb.ModelInferRequest) -> None:
    request.id = rng.choice(("1", " ", "\n", "\0", "%s%n", "ü" * 100, "x" * 100_000))


@_mutation()
def _renamed_input(rng: Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        others = [tensor.name for model in SERVED for tensor in (*model.inputs, *model.outputs)]
        rng.choice(request.inputs).name = rng.choice(("", " ", "query", "x" * 200, "\0", "../x", "%s%n", *others))


@_mutation()
def _missing_input(rng: Random, request: pb.ModelInferRequest) -> None:
    place = _any(rng, request)
    if place is not None:
        del request.inputs[place]
        if rng.random() < 0.7:
            del request.raw_input_contents[place]


@_mutation()
def _doubled_input(rng: Random, request: pb.ModelInferRequest) -> None:
    place = _any(rng, request)
    if place is not None and request.ByteSize() < _BIG_MESSAGE:
        request.inputs.add().CopyFrom(request.inputs[place])
        request.raw_input_contents.append(request.raw_input_contents[place])


@_mutation()
def _more_inputs(rng: Random, request: pb.ModelInferRequest) -> None:
    for i in range(rng.choice((1, 2, 31, 33, 1000))):
        kserve.add_input(request, f"MORE_{i}", "INT64", (1, 1), bytes(8))


@_mutation()
def _inputs_of_another_model(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in rng.choice(SERVED).inputs:
        _add(rng, request, tensor, rng.choice((1, 1, 2)), 128)


@_mutation()
def _another_type(rng: Random, request: pb.ModelInferRequest) -> None:
    if request.inputs:
        types = ("", "X", "BYTES", "INT64", "FP32", "FP64", "FP16", "BF16", "BOOL", "UINT8", "INT32", "UINT64", "bytes")
        rng.choice(request.inputs).datatype = rng.choice(types)


@_mutation()
def _another_shape(rng: Random, request: pb.ModelInferRequest) -> None:
    if not request.inputs:
        return
    shape = rng.choice(request.inputs).shape
    lengths = (0, 0, -1, -2, 1, 2, 64, 65, 10_000, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))
    kind = rng.randrange(5)
    if kind == 0 and shape:
        shape[rng.randrange(len(shape))] = rng.choice(lengths)
    elif kind == 1:
        del shape[rng.randrange(len(shape) + 1) :]
    elif kind == 2:
        shape.extend([1] * rng.choice((1, 9, 1000)))
    elif kind == 3:
        shape[:] = [rng.choice(lengths) for _ in range(rng.choice((1, 2, 3, 9)))]
    elif shape:
        shape.reverse()


@_mutation()
def _no_rows(rng: Random, request: pb.ModelInferRequest) -> None:
    rows = rng.choice((0, 0, 2**32, 2**62, -(2**63)))
    for place, tensor in enumerate(request.inputs):
        tensor.shape[:] = [rows] + [0] * (len(tensor.shape) - 1)
        if place < len(request.raw_input_contents):
            request.raw_input_contents[place] = b""


@_mutation()
def _many_rows(rng: Random, request: pb.ModelInferRequest) -> None:
    """At the batch's limit, and over it, all inputs alike."""
    rows = rng.choice((limits.MAX_BATCH, limits.MAX_BATCH + 1, 1000))
    for place, tensor in enumerate(request.inputs[: len(request.raw_input_contents)]):
        if tensor.shape and tensor.shape[0] == 1 and len(request.raw_input_contents[place]) < 5000:
            tensor.shape[0] = rows
            request.raw_input_contents[place] *= rows


@_mutation(2)
def _many_columns(rng: Random, request: pb.ModelInferRequest) -> None:
    """Ids, texts, candidates and tokens at their limits, and over them."""
    place = _any(rng, request)
    if place is not None and len(request.inputs[place].shape) > 1:
        most = rng.choice((limits.MAX_QUERY_TOKENS, limits.MAX_CANDIDATES, limits.MAX_IDS))
        times = rng.choice((100, most, most + 1))
        if len(request.raw_input_contents[place]) * times < 4 * 2**20 and 0 < request.inputs[place].shape[1] < 100:
            request.inputs[place].shape[1] *= times
            request.raw_input_contents[place] *= times


@_mutation(0.05)
def _a_large_input(rng: Random, request: pb.ModelInferRequest) -> None:
    """The most text that a request may have, or one input that is too large."""
    place = _any(rng, request)
    if place is not None and request.ByteSize() < _BIG_MESSAGE:
        longest = kserve.strings([b"a" * limits.MAX_TEXT_BYTES])
        request.inputs[place].datatype = "BYTES"
        times = rng.choice((limits.MAX_BATCH, limits.MAX_INPUT_BYTES // len(longest) + 1))
        request.inputs[place].shape[:] = [times, 1] if times == limits.MAX_BATCH else [1, times]
        request.raw_input_contents[place] = longest * times


@_mutation()
def _contents_of_another_length(rng: Random, request: pb.ModelInferRequest) -> None:
    place = _any(rng, request)
    if place is not None:
        raw = request.raw_input_contents[place]
        request.raw_input_contents[place] = rng.choice(
            (b"", raw[:-1], raw[:3], raw + b"\0", raw * 2, rng.randbytes(50))
        )


@_mutation()
def _more_or_less_contents(rng: Random, request: pb.ModelInferRequest) -> None:
    if request.raw_input_contents and rng.random() < 0.5:
        del request.raw_input_contents[rng.randrange(len(request.raw_input_contents)) :]
    else:
        request.raw_input_contents.extend([b"", b"more", b"\xff" * 9][: rng.choice((1, 2, 3))])


@_mutation()
def _typed_contents(rng: Random, request: pb.ModelInferRequest) -> None:
    """Beside the raw ones, or instead of them."""
    if not request.inputs:
        return
    contents = rng.choice(request.inputs).contents
    for _ in range(rng.choice((0, 1, 1, 2, 100))):
        contents.bytes_contents.append(values.text(rng))
    rng.choice(
        (
            lambda: contents.int64_contents.extend([2**62] * rng.choice((1, 3))),
            lambda: contents.fp32_contents.extend([float("nan")] * rng.choice((1, 128))),
            lambda: contents.bool_contents.append(True),
            lambda: contents.uint64_contents.append(2**64 - 1),
        )
    )()
    if rng.random() < 0.6:
        del request.raw_input_contents[:]


@_mutation(2)
def _lying_lengths(rng: Random, request: pb.ModelInferRequest) -> None:
    """Strings that are not as long as they say."""
    place = _any(rng, request, "BYTES")
    if place is not None:
        raw = request.raw_input_contents[place]
        said = rng.choice((0, 1, 2**8, 2**16, 2**31 - 1, 2**31, 2**32 - 1, max(0, len(raw) - 3), len(raw) + 1))
        lie = said.to_bytes(4, "little")
        request.raw_input_contents[place] = rng.choice((lie + raw[4:], raw + lie, lie, lie[:2], raw + lie[:3], lie * 3))


@_mutation(8)
def _a_parameter(rng: Random, request: pb.ModelInferRequest) -> None:
    name = rng.choice(PARAMETERS)
    if name not in (parameters.COLLECTION, parameters.ALIAS):
        kserve.set_parameter(request.parameters[name], values.parameter(rng, WORDS))


@_mutation(3)
def _several_parameters(rng: Random, request: pb.ModelInferRequest) -> None:
    for _ in range(rng.randrange(2, 8)):
        _a_parameter(rng, request)


@_mutation(6)
def _a_mode(rng: Random, request: pb.ModelInferRequest) -> None:
    """A search in a way that there is, or nearly."""
    said: dict[str, Any] = {
        parameters.MODE: rng.choice(parameters.SEARCH_MODES),
        parameters.EXACT: rng.random() < 0.5,
        parameters.TOP_K: rng.choice((1, 10, limits.MAX_TOP_K)),
        parameters.N_CANDIDATES: rng.choice((1, 10, limits.MAX_CANDIDATES)),
        parameters.N_PROBE: rng.choice((1, limits.MAX_PROBE)),
        parameters.MAXSIM_WEIGHT: rng.choice(("0", "1", "0.5", "nan", "1e-400", "\u0661")),
        parameters.FILTERS: values.conditions(rng),
        parameters.EXPLAIN: rng.choice((0, 1, limits.MAX_EXPLAINED)),
        parameters.EXPLAIN_MATRIX: rng.random() < 0.5,
    }
    for name in rng.sample(sorted(said), rng.randrange(1, 5)):
        kserve.set_parameter(request.parameters[name], said[name])


@_mutation()
def _a_name_of_no_collection(rng: Random, request: pb.ModelInferRequest) -> None:
    name = rng.choice((parameters.COLLECTION, parameters.ALIAS))
    kserve.set_parameter(request.parameters[name], rng.choice((*values.NAMES, 7, True, 0.5)))


@_mutation()
def _parameters_that_nobody_knows(rng: Random, request: pb.ModelInferRequest) -> None:
    names = ("", " ", "a\0b", "triton_x", "triton_enable_empty_final_response", "headers", "__class__", "x" * 10_000)
    for name in rng.choice((names, rng.sample(names, 1), [f"p{i}" for i in range(1000)])):
        kserve.set_parameter(request.parameters[name], values.parameter(rng, WORDS))


@_mutation()
def _a_parameter_without_value(rng: Random, request: pb.ModelInferRequest) -> None:
    request.parameters[rng.choice(PARAMETERS)].Clear()


@_mutation()
def _what_triton_reads(rng: Random, request: pb.ModelInferRequest) -> None:
    """Timeouts, priorities and sequences, of every type."""
    names = ("timeout", "priority", "sequence_id", "sequence_start", "sequence_end", "binary_data_output")
    for name in rng.sample(names, rng.randrange(1, 4)):
        kserve.set_parameter(request.parameters[name], values.parameter(rng, ("1", "start")))


@_mutation(2)
def _classification(rng: Random, request: pb.ModelInferRequest) -> None:
    if not request.outputs:
        request.outputs.add().name = "IDS"
    for output in request.outputs:
        if rng.random() < 0.7:
            count = rng.choice((0, 1, 2, 1000, -1, 2**62, -(2**63), True, "1", 0.5))
            kserve.set_parameter(output.parameters["classification"], count)


@_mutation()
def _other_outputs(rng: Random, request: pb.ModelInferRequest) -> None:
    every = [tensor.name for model in SERVED for tensor in (*model.inputs, *model.outputs)]
    del request.outputs[rng.randrange(len(request.outputs) + 1) :]
    for name in rng.choices((*every, "", "nope", "\0", "x" * 1000), k=rng.choice((1, 2, 20, 1000))):
        request.outputs.add().name = name


@_mutation()
def _shared_memory(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in (*request.inputs, *request.outputs):
        if rng.random() < 0.7:
            said = {
                "shared_memory_region": rng.choice(("", "x", "tridex", 7)),
                "shared_memory_byte_size": rng.choice((0, 8, -1, 2**62, "8")),
                "shared_memory_offset": rng.choice((0, -8, 2**63 - 1)),
                "binary_data": rng.choice((True, "x")),
            }
            for name in rng.sample(sorted(said), rng.randrange(1, 5)):
                kserve.set_parameter(tensor.parameters[name], said[name])


@_mutation()
def _parameters_of_tensors(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in (*request.inputs, *request.outputs):
        kserve.set_parameter(tensor.parameters[rng.choice(("binary_data_size", "x", ""))], values.parameter(rng, WORDS))


Way = Callable[[Random, Attack], Attack]
_WAYS: dict[str, Way] = {}


def _way(send: Way) -> Way:
    _WAYS[send.__name__.strip("_").replace("_", " ")] = send
    return send


@_way
def _as_it_is(_rng: Random, attack: Attack) -> Attack:
    return attack


@_way
def _cancelled(rng: Random, attack: Attack) -> Attack:
    return Attack(attack.number, attack.what, messages=attack.messages, cancel_after_s=rng.choice((0.0, 0.002, 0.02)))


@_way
def _with_a_short_deadline(rng: Random, attack: Attack) -> Attack:
    return Attack(attack.number, attack.what, messages=attack.messages, deadline_s=rng.choice((0.001, 0.01, 0.05)))


@_way
def _with_odd_metadata(rng: Random, attack: Attack) -> Attack:
    sets = (
        tuple((f"x-{i}", "v" * 100) for i in range(rng.choice((10, 70, 500)))),
        (("x-long", "v" * rng.choice((4000, 100_000))),),
        (("triton-grpc-protocol-key", "guess"), ("triton-grpc-protocol-key", "again")),
        (("traceparent", "00-zz-0-"), ("tracestate", "=,=,"), ("authorization", "Bearer x")),
    )
    return Attack(attack.number, attack.what, messages=attack.messages, metadata=rng.choice(sets))


@_way
def _damaged(rng: Random, attack: Attack) -> Attack:
    """Bytes that are not quite the request, or no request at all."""
    (message,) = attack.messages
    damaged = bytearray(message)
    for _ in range(rng.choice((1, 1, 8))):
        damaged[rng.randrange(min(len(damaged), 500))] ^= 1 << rng.randrange(8)
    cut = message[: rng.randrange(len(message))]
    return Attack(
        attack.number, attack.what, messages=(rng.choice((bytes(damaged), cut, rng.randbytes(200), b"\xff" * 99)),)
    )


@_way
def _in_a_stream(rng: Random, attack: Attack) -> Attack:
    return Attack(
        attack.number,
        attack.what,
        "ModelStreamInfer",
        attack.messages * (1 if attack.is_big else rng.choice((1, 1, 2, 8))),
        cancel_after_s=rng.choice((None, None, 0.0, 0.01)),
    )


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
