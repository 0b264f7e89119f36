"""Changes of a request that could be right."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import hostile_values as values
import kserve
from fuzz_attacks import BIG_MESSAGE
from fuzz_requests import PARAMETERS, REACHABLE, SERVED, WORDS, add
from tritonclient.grpc import service_pb2 as pb

from tridex.protocol import limits, parameters

Mutation = Callable[[Random, pb.ModelInferRequest], None]

MUTATIONS: dict[str, Mutation] = {}
WEIGHTS: list[float] = []
"""How often each is made."""


def _mutation(weight: float = 1.0) -> Callable[[Mutation], Mutation]:
    """What Triton server refuses by itself is worth less, and so is what costs the encoder much."""

    def registered(change: Mutation) -> Mutation:
        MUTATIONS[change.__name__.strip("_").replace("_", " ")] = change
        WEIGHTS.append(weight)
        return change

    return registered


def _any(rng: Random, request: pb.ModelInferRequest, dtype: str = "") -> int | None:
    """The place of an input that has its bytes, perhaps of this type alone; None where there is none."""
    whole = list(zip(request.inputs, request.raw_input_contents, strict=False))
    places = [place for place, (tensor, _) in enumerate(whole) if dtype in ("", tensor.datatype)]
    return rng.choice(places) if places else None


@_mutation(2)
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
    if place is not None and request.ByteSize() < BIG_MESSAGE:
        request.inputs.add().CopyFrom(request.inputs[place])
        request.raw_input_contents.append(request.raw_input_contents[place])


@_mutation()
def _more_inputs(rng: Random, request: pb.ModelInferRequest) -> None:
    for i in range(rng.choice((1, 2, 31, 33, 1000))):
        kserve.add_input(request, f"MORE_{i}", "INT64", (1, 1), bytes(8))


@_mutation()
def _inputs_of_another_model(rng: Random, request: pb.ModelInferRequest) -> None:
    for tensor in rng.choice(SERVED).inputs:
        add(rng, request, tensor, rng.choice((1, 1, 2)), 128)


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


@_mutation()
def _many_columns(rng: Random, request: pb.ModelInferRequest) -> None:
    """Ids, texts, candidates and tokens at their limits, and over them."""
    place = _any(rng, request)
    if place is not None and len(request.inputs[place].shape) > 1:
        most = rng.choice((limits.MAX_QUERY_TOKENS, limits.MAX_CANDIDATES, limits.MAX_IDS))
        times = rng.choice((100, most, most + 1))
        if len(request.raw_input_contents[place]) * times < 4 * 2**20 and 0 < request.inputs[place].shape[1] < 100:
            request.inputs[place].shape[1] *= times
            request.raw_input_contents[place] *= times


@_mutation(0.02)
def _a_large_input(rng: Random, request: pb.ModelInferRequest) -> None:
    """The most text that a request may have, or one input that is too large."""
    place = _any(rng, request)
    if place is not None and request.ByteSize() < BIG_MESSAGE:
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
