"""Runs the PTX of gpu/codes.py on the CPU: neither the Triton language's interpreter nor gluon_on_cpu.py has any."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]


def run_ptx(assembly: str, registers: dict[str, Words]) -> dict[str, Words]:
    """The few instructions there, as the PTX manual (9.7) defines them, for many threads at once.

    Args:
        assembly: In braces, an instruction to a line.
        registers: What is in those that the assembly reads, by name: $0, $1 and so on.

    Returns:
        What is in all registers at the end.
    """
    values = dict(registers)

    def value(operand: str) -> Words:
        return np.uint32(int(operand, 0)) if operand[0].isdigit() else values[operand]

    for line in assembly.strip("{}\n").split(";\n"):
        name, _, rest = line.strip("; ").partition(" ")
        target, *operands = [part.strip() for part in rest.split(",")]
        if name == ".reg":
            continue
        numbers = [value(operand) for operand in operands]
        match name:
            case "prmt.b32":
                values[target] = _permuted(*numbers)
            case "lop3.b32":
                a, b, c, table = numbers
                assert table == 0xCA
                values[target] = a & b | ~a & c
            case "and.b32":
                values[target] = numbers[0] & numbers[1]
            case "xor.b32":
                values[target] = numbers[0] ^ numbers[1]
            case "shr.u32":
                values[target] = numbers[0] >> numbers[1]
            case "add.u32":
                values[target] = numbers[0] + numbers[1]
            case "sub.u32":
                values[target] = numbers[0] - numbers[1]
            case "mov.b32":
                values[target] = numbers[0]
            case _:
                raise AssertionError(line)
    return values


def _permuted(low: Words, high: Words, selector: Words) -> Words:
    octets = low.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)
    permuted = np.uint64(0)
    for i in range(4):
        index = (selector >> np.uint32(4 * i)).astype(np.uint64) & np.uint64(0xF)
        assert (index < 8).all(), "the 4th bit would replicate a sign"
        permuted |= (octets >> np.uint64(8) * index & np.uint64(0xFF)) << np.uint64(8 * i)
    return permuted.astype(np.uint32)
