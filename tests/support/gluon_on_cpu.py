"""Runs a Gluon kernel on the CPU: Gluon has no interpreter, so the kernel's own Python, with numpy for the language.

Each role of a warp-specialised kernel is a thread. Barriers in shared memory count arrivals and have phases as on the
device: a role that waits for the wrong phase hangs, and fails by a timeout, or reads what is not there, for shared
memory starts as the largest numbers, copies land when their barrier is told of them, and products are taken as late as
they may be. Layouts, and the warps of one role among each other, are the compiler's business and not looked at.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import triton.language as tl
from ptx import run_ptx
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.hopper import mbarrier

PATIENCE_S = 60.0
"""A role that waits for longer waits in vain."""

_NUMBERS = {
    "int1": "?",
    "int8": "b",
    "uint8": "B",
    "int16": "h",
    "int32": "i",
    "int64": "q",
    "fp16": "e",
    "fp32": "f",
    "fp64": "d",
}


class Values(np.ndarray):  # type: ignore[type-arg]
    """A tensor of the language."""

    type = types.SimpleNamespace(layout=None)

    def to(self, dtype: Any, bitcast: bool = False) -> Any:
        wanted = np.dtype(_NUMBERS[dtype.name])
        return self.view(wanted) if bitcast else self.astype(wanted)


def _values(numbers: Any, dtype: Any = None) -> Any:
    return np.asarray(numbers, dtype).view(Values)


class Pointers:
    """Addresses in one tensor's memory: places, which may lie outside of it until something is loaded."""

    def __init__(self, memory: Any, places: Any, element_ty: Any) -> None:
        self.memory, self.places = memory, places
        self.dtype = types.SimpleNamespace(element_ty=element_ty)

    def __add__(self, distance: Any) -> Pointers:
        return Pointers(self.memory, self.places + np.asarray(distance, np.int64), self.dtype.element_ty)

    def __sub__(self, distance: Any) -> Pointers:
        return self + -np.asarray(distance, np.int64)

    def __getitem__(self, index: Any) -> Pointers:
        return Pointers(self.memory, self.places[index], self.dtype.element_ty)

    def to(self, pointer_type: Any) -> Pointers:
        wanted = np.dtype(_NUMBERS[pointer_type.element_ty.name])
        starts = self.places * self.memory.itemsize
        assert (starts % wanted.itemsize == 0).all(), "a pointer of wider numbers is not aligned"
        return Pointers(self.memory.view(wanted), starts // wanted.itemsize, pointer_type.element_ty)


class _Shared:
    """Shared memory, or a barrier in it."""

    def __init__(self, numbers: Any, dtype: Any, barriers: list[_Barrier] | None = None) -> None:
        self.numbers, self.dtype, self.shape, self.barriers = numbers, dtype, list(numbers.shape), barriers

    def index(self, place: Any) -> Any:
        return self.barriers[int(place)] if self.barriers else _Shared(self.numbers[int(place)], self.dtype)

    def permute(self, order: Any) -> _Shared:
        return _Shared(self.numbers.transpose(order), self.dtype)

    def slice(self, start: int, length: int, dim: int) -> _Shared:
        return _Shared(self.numbers.take(range(start, start + length), dim), self.dtype)

    def _reinterpret(self, dtype: Any, shape: list[int], _layout: Any) -> _Shared:
        return _Shared(self.numbers.view(np.dtype(_NUMBERS[dtype.name])).reshape(shape), dtype)

    def store(self, numbers: Any) -> None:
        assert numbers.shape == self.numbers.shape
        self.numbers[...] = numbers

    def load(self, _layout: Any) -> Any:
        return self.numbers.copy().view(Values)


class _Barrier:
    def __init__(self) -> None:
        self.condition, self.phase = threading.Condition(), 0

    def init(self, count: int) -> None:
        self.count = self.missing = count

    def arrive(self, count: int) -> None:
        with self.condition:
            self.missing -= count
            assert self.missing >= 0, "more arrive than the barrier counts"
            if not self.missing:
                self.phase, self.missing = self.phase + 1, self.count
                self.condition.notify_all()

    def wait(self, parity: int) -> None:
        with self.condition:
            if not self.condition.wait_for(lambda: self.phase % 2 != parity, PATIENCE_S):
                raise TimeoutError("a role waits for a phase that does not come")


def _load(pointers: Pointers, mask: Any = None, other: Any = 0, **_options: str) -> Any:
    places = np.asarray(pointers.places)
    wanted = np.broadcast_to(True if mask is None else mask, places.shape)
    inside = places[wanted]
    assert ((inside >= 0) & (inside < len(pointers.memory))).all(), "loads outside of a tensor"
    loaded = np.full(places.shape, other, pointers.memory.dtype)
    loaded[wanted] = pointers.memory[inside]
    return loaded.view(Values)


def _store(pointers: Pointers, numbers: Any, mask: Any = None) -> None:
    places = np.asarray(pointers.places)
    wanted = np.broadcast_to(True if mask is None else mask, places.shape)
    inside = places[wanted]
    assert ((inside >= 0) & (inside < len(pointers.memory))).all(), "stores outside of a tensor"
    assert len(set(inside.tolist())) == len(inside), "two threads store to one place"
    pointers.memory[inside] = np.broadcast_to(numbers, places.shape)[wanted]


def _reduced(function: Callable[..., Any], numbers: Any, axis: int | None = None) -> Any:
    dtype = np.int32 if numbers.dtype == np.bool_ else numbers.dtype
    return _values(function(np.asarray(numbers), axis=axis), dtype)


def _running_sums(numbers: Any, axis: int = 0, *_: Any) -> Any:
    return _values(np.cumsum(np.asarray(numbers), axis=axis, dtype=numbers.dtype))


class _Language:
    """What the kernels use of gl, tl, mbarrier, async_copy and the rest, for one program after the other."""

    def __init__(self) -> None:
        self.program: tuple[int, ...] = ()
        self.programs: tuple[int, ...] = ()
        self._lock = threading.Lock()
        self._copies = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(gl, name, None) or getattr(tl, name)  # Types and layouts.

    load, store, static_range = staticmethod(_load), staticmethod(_store), range
    cumsum, associative_scan = staticmethod(_running_sums), staticmethod(_running_sums)
    maximum, minimum = staticmethod(np.maximum), staticmethod(np.minimum)
    MBarrierLayout = mbarrier.MBarrierLayout
    init = staticmethod(_Barrier.init)
    wait = staticmethod(_Barrier.wait)

    @staticmethod
    def arrive(barrier: _Barrier, count: int = 1) -> None:
        barrier.arrive(count)

    def program_id(self, axis: int) -> Any:
        return _values(self.program[axis], np.int32)

    def num_programs(self, axis: int) -> Any:
        return _values(self.programs[axis], np.int32)

    def atomic_add(self, pointer: Pointers, number: int, **_options: str) -> Any:
        with self._lock:
            before = _load(pointer)
            _store(pointer, before + number)
        return before

    @staticmethod
    def arange(start: int, end: int, _layout: Any = None) -> Any:
        return _values(np.arange(start, end, dtype=np.int32))

    @staticmethod
    def zeros(shape: Iterable[int], dtype: Any, _layout: Any = None) -> Any:
        return _values(np.zeros(list(shape), _NUMBERS[dtype.name]))

    @staticmethod
    def to_tensor(number: int) -> Any:
        return _values(number, np.int32 if abs(number) < 2**31 else np.int64)

    @staticmethod
    def where(condition: Any, one: Any, other: Any) -> Any:
        kinds = [x.dtype for x in (one, other) if isinstance(x, np.ndarray) and x.ndim]
        return _values(
            np.where(condition, one, other), kinds[0] if kinds else np.float32 if isinstance(one, float) else None
        )

    @staticmethod
    def cast(number: Any, dtype: Any) -> Any:
        return _values(number).to(dtype)

    @staticmethod
    def max(numbers: Any, axis: int | None = None) -> Any:
        return _reduced(np.max, numbers, axis)

    @staticmethod
    def min(numbers: Any, axis: int | None = None) -> Any:
        return _reduced(np.min, numbers, axis)

    @staticmethod
    def sum(numbers: Any, axis: int | None = None) -> Any:
        return _reduced(np.sum, numbers, axis)

    @staticmethod
    def cdiv(number: Any, divisor: int) -> Any:
        return -(-number // divisor)

    @staticmethod
    def ravel(numbers: Any) -> Any:
        return numbers.reshape(-1)

    @staticmethod
    def reshape(numbers: Any, shape: list[int]) -> Any:
        return numbers.reshape(shape)

    @staticmethod
    def permute(numbers: Any, order: list[int]) -> Any:
        return numbers.transpose(order)

    @staticmethod
    def expand_dims(numbers: Any, axis: int) -> Any:
        if isinstance(numbers, Pointers):
            return Pointers(numbers.memory, np.expand_dims(numbers.places, axis), numbers.dtype.element_ty)
        return np.expand_dims(numbers, axis)

    @staticmethod
    def join(one: Any, other: Any) -> Any:
        return _values(np.stack([one, other], axis=-1))

    @staticmethod
    def inline_asm_elementwise(
        asm: str, _operands: str, args: list[Any], dtype: tuple[Any, ...], is_pure: bool, pack: int
    ) -> Any:
        """Of numbers of 32 bits, `pack` of which are in as many registers, and of bytes, four in one."""
        assert is_pure
        registers: dict[str, Any] = {}
        for value in args:
            # numpy has made a single number an int64.
            numbers = np.ascontiguousarray(value, np.int32 if value.dtype == np.int64 else None)
            words = numbers.reshape(-1).view(np.uint32)
            for _ in range(pack * numbers.itemsize // 4):
                registers[f"${len(dtype) + len(registers)}"] = words
        after = run_ptx(asm, registers)
        results = [np.ascontiguousarray(after[f"${i}"]) for i in range(len(dtype))]
        return tuple(
            _values(words.view(_NUMBERS[kind.name]).reshape(args[0].shape))
            for words, kind in zip(results, dtype, strict=True)
        )

    @staticmethod
    def split(numbers: Any) -> Any:
        return numbers[..., 0], numbers[..., 1]

    @staticmethod
    def convert_layout(numbers: Any, _layout: Any) -> Any:
        return numbers

    @staticmethod
    def static_assert(condition: bool) -> None:
        assert condition

    @staticmethod
    def allocate_shared_memory(dtype: Any, shape: list[int], layout: Any) -> _Shared:
        if isinstance(layout, mbarrier.MBarrierLayout):
            return _Shared(np.zeros(shape), dtype, [_Barrier() for _ in range(shape[0])])
        kind = np.dtype(_NUMBERS[dtype.name])
        most = np.nan if kind.kind == "f" else np.iinfo(kind).max
        return _Shared(np.full(shape, most, kind), dtype)

    def async_copy_global_to_shared(self, shared: _Shared, pointers: Pointers) -> None:
        shared.store(np.full(shared.shape, np.nan if shared.numbers.dtype.kind == "f" else 127))
        self._copies.waiting = [*getattr(self._copies, "waiting", []), (shared, _load(pointers))]

    def mbarrier_arrive(self, barrier: _Barrier, increment_count: bool) -> None:
        """Of the role's 128 threads."""
        for shared, numbers in self._copies.waiting:
            shared.store(numbers)
        self._copies.waiting = []
        assert not increment_count
        barrier.arrive(128)

    def commit_group(self) -> None:
        """Of a program of one warp, whose copies land when it waits for their group."""
        self._copies.groups = [*getattr(self._copies, "groups", []), getattr(self._copies, "waiting", [])]
        self._copies.waiting = []

    def wait_group(self, outstanding: int) -> None:
        groups = getattr(self._copies, "groups", [])
        while len(groups) > outstanding:
            for shared, numbers in groups.pop(0):
                shared.store(numbers)

    @staticmethod
    def mma_v2(one: Any, other: Any, sums: Any) -> Any:
        return _values(sums + np.asarray(one, np.float64) @ np.asarray(other, np.float64), sums.dtype)

    @staticmethod
    def warpgroup_mma(one: Any, other: _Shared, sums: Any, use_acc: bool, is_async: bool) -> Callable[[], Any]:
        def product() -> Any:
            queries = one.numbers if isinstance(one, _Shared) else one
            exact = np.asarray(queries, np.float64) @ np.asarray(other.numbers, np.float64)
            return _values(exact, sums.dtype)

        assert is_async and not use_acc
        return product

    @staticmethod
    def warpgroup_mma_wait(outstanding: int, deps: list[Callable[[], Any]]) -> Any:
        assert outstanding == 0
        return deps[0]()

    def warp_specialize(self, roles: list[tuple[Any, Any]], warps: list[int], registers: list[int]) -> None:
        assert len(roles) == len(warps) + 1 == len(registers) + 1
        failures: list[BaseException] = []

        def play(role: Callable[..., None], arguments: tuple[Any, ...]) -> None:
            try:
                role(*arguments)
            except BaseException as failure:
                failures.append(failure)

        threads = [threading.Thread(target=play, args=role, daemon=True) for role in roles]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not failures:
                thread.join(0.05)
        if failures:
            raise failures[0]

    def barrier(self) -> None:
        """Of a role, which is one thread here."""

    fence_async_shared = debug_barrier = barrier


_REPLACED = ("barrier", "fence_async_shared", "mma_v2", "warpgroup_mma", "warpgroup_mma_wait")


def _translated(function: Any, language: _Language, modules: dict[int, dict[str, Any]]) -> Any:
    """The Python function under a jit function, in a copy of its module whose language is numpy."""
    python = function.fn
    known = python.__globals__
    if id(known) not in modules:
        module = modules[id(known)] = dict(known)
        for name, value in known.items():
            if value in (gl, tl, mbarrier, async_copy) or name in _REPLACED:
                module[name] = getattr(language, name) if name in _REPLACED else language
            elif isinstance(value, tl.constexpr):
                module[name] = value.value
            elif hasattr(value, "fn") and hasattr(value.fn, "__code__"):
                module[name] = _translated(value, language, modules)
    return types.FunctionType(python.__code__, modules[id(known)], python.__name__, python.__defaults__)


class OnCpu:
    """A Gluon kernel that runs on tensors of the CPU, one program after the other, when it is launched."""

    def __init__(self, kernel: Any) -> None:
        self._kernel, self._language = kernel, _Language()
        self._function = _translated(kernel, self._language, {})
        self.launches = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        def launch(*arguments: Any, **others: Any) -> None:
            names = [parameter.name for parameter in self._kernel.params]
            given = dict(zip(names, arguments, strict=False)) | others
            given = {name: _argument(given[name], name.isupper()) for name in names}
            self.launches += 1
            self._language.programs = grid
            with np.errstate(all="ignore"):
                for self._language.program in np.ndindex(grid):
                    self._function(**given)

        return launch


def _argument(value: Any, is_constant: bool) -> Any:
    if isinstance(value, torch.Tensor):
        memory = value.numpy().reshape(-1)
        return Pointers(
            memory,
            np.int64(0),
            next(
                t
                for t in (gl.int8, gl.uint8, gl.int16, gl.int32, gl.int64, gl.float16, gl.float32, gl.float64)
                if np.dtype(_NUMBERS[t.name]) == memory.dtype
            ),
        )
    return value if is_constant or value is None else _values(value, np.int32)
