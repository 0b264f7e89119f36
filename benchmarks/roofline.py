"""What the device can do at most, measured: bytes read per second, and products per second for each type of number.

    python -m benchmarks.roofline

A roofline (Williams, Waterman and Patterson, 2009) is the lower of two rates: work takes at least as long as its bytes
take to read and as its products take to compute, whichever is longer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console

from tridex.kernels import Codec
from tridex.kernels.codecs import DESCRIPTIONS

from .timing import side_by_side

_EXACT = {
    torch.float32: ("float32",),
    torch.float16: ("float16", "float32"),
    torch.bfloat16: ("bfloat16", "float32"),
    torch.float8_e4m3fn: ("float8_e4m3", "bfloat16", "float16", "float32"),
    torch.int8: ("int8", "bfloat16", "float16", "float32"),
}
"""The types that hold a codec's operands exactly: the fastest of them on the device is its ceiling."""


@dataclass(frozen=True)
class Roofline:
    """One device's ceilings."""

    bytes_per_s: float
    """Read from memory."""
    flops_per_s: dict[str, float]
    """Two operations per product, by type of number; only the types that the device multiplies fast."""

    def seconds(self, codec: Codec, read: int, flops: int) -> float:
        """The least time for so many bytes and operations on a codec's numbers."""
        operand = DESCRIPTIONS[codec].operand
        if operand not in _EXACT:
            raise ValueError(f"codec {codec.value} multiplies {operand}; expected one of {', '.join(map(str, _EXACT))}")
        rate = max(self.flops_per_s[name] for name in _EXACT[operand] if name in self.flops_per_s)
        return max(read / self.bytes_per_s, flops / rate)

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e12:.2f}" for name, rate in self.flops_per_s.items())
        return f"read {self.bytes_per_s / 1e9:.0f} GB/s; matrix products in TFLOP/s: {rates}"


def measure(device: torch.device) -> Roofline:
    """Takes a few seconds, and 4 GB on a GPU, 1 GB on a CPU."""
    return Roofline(_bandwidth(device), {name: _rate(product, device) for name, product in _products(device).items()})


def _bandwidth(device: torch.device) -> float:
    """The fastest round of three reductions, as none of them is written to be the fastest everywhere."""
    numbers = torch.ones(1 << (30 if device.type == "cuda" else 28), device=device)
    reductions: list[Callable[[], object]] = [numbers.sum, numbers.amax, lambda: torch.dot(numbers, numbers)]
    return max(1000 * numbers.nbytes / min(times) for times in side_by_side(reductions, device, 3))


def _products(device: torch.device) -> dict[str, Callable[[int], Callable[[], object]]]:
    """For each type, what makes a product of two square matrices of a given size."""

    def floating(dtype: torch.dtype) -> Callable[[int], Callable[[], object]]:
        def make(size: int) -> Callable[[], object]:
            a, b = torch.randn(2, size, size, device=device).to(dtype).unbind()
            return lambda: a @ b.T

        return make

    def int8(size: int) -> Callable[[], object]:
        a, b = torch.randint(-127, 128, (2, size, size), dtype=torch.int8, device=device).unbind()
        return lambda: torch._int_mm(a, b.T)

    def float8(size: int) -> Callable[[], object]:
        a, b = torch.randn(2, size, size, device=device).to(torch.float8_e4m3fn).unbind()
        one = torch.ones((), device=device)
        return lambda: torch._scaled_mm(a, b.T, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)

    products = {"float32": floating(torch.float32), "bfloat16": floating(torch.bfloat16), "int8": int8}
    if device.type == "cuda":
        products["float16"] = floating(torch.float16)
        if torch.cuda.get_device_capability(device) >= (8, 9):
            products["float8_e4m3"] = float8
    return products


def _rate(product: Callable[[int], Callable[[], object]], device: torch.device) -> float:
    sizes = (4096, 8192) if device.type == "cuda" else (1024, 2048)
    all_times = side_by_side([product(size) for size in sizes], device, 1)
    return max(1000 * 2 * size**3 / min(times) for size, times in zip(sizes, all_times, strict=True))


if __name__ == "__main__":
    Console().print(str(measure(torch.device("cuda" if torch.cuda.is_available() else "cpu"))))
