"""What a compiled kernel's code says of it, by the tools that come with triton, and the types that kernels point to."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import torch
import triton

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
SHARED_MEMORY = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024, 100: 227 * 1024}
"""Of a program, and of a multiprocessor less 1 KiB for each program."""

POINTERS = {
    "p_weights": "*fp32",
    "p_scales": "*fp16",
    "p_centroid_ids": "*i16",
    "p_centroids": "*i8",
    "p_bucket_weights": "*i8",
    "p_offsets": "*i64",
    "p_live": "*i32",
    "p_rows": "*i64",
    "p_best_scores": "*fp32",
    "p_best_rows": "*i64",
    "p_keys": "*i64",
    "p_merged": "*i64",
    "p_least": "*i64",
    "p_chunks": "*i64",
    "p_ends": "*i8",
    "p_sums": "*fp32",
    "p_counters": "*i32",
    "p_units": "*fp64",
    "p_scores": "*fp32",
    "p_tokens": "*i64",
    "p_similarities": "*fp32",
}
NUMBERS = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.int8: "i8",
}


def register_use(variant: Any, cubin: Path) -> dict[str, int]:
    """Registers of a thread, REG, and bytes of memory that stand in for registers, STACK and LOCAL."""
    cubin.write_bytes(variant.asm["cubin"])
    return register_use_of(cubin)


def register_use_of(cubin: Path) -> dict[str, int]:
    """register_use, of what is in a file."""
    command = [TOOLS / "cuobjdump", "-res-usage", cubin]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(count) for name, count in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report)}


def spills_in_loops_that(use: str, cubin: Path) -> list[tuple[int, list[str]]]:
    """For each loop with such an instruction: its length, and its loads and stores of spilled registers."""
    code = subprocess.run([TOOLS / "nvdisasm", "-c", cubin], capture_output=True, text=True, check=True).stdout
    lines = [line for line in code.splitlines() if re.match(r"\.L\w+:|\s+/\*[0-9a-f]{4,}\*/ ", line)]
    labels = {line.split(":")[0]: i for i, line in enumerate(lines) if line.startswith(".L")}
    loops = []
    for i, line in enumerate(lines):
        jump = re.search(r"\bBRA\b.*`\((\.L\w+)\)", line)
        if jump and labels.get(jump[1], i) < i:
            body = lines[labels[jump[1]] : i]
            if any(use in instruction for instruction in body):
                loops.append((len(body), [spill for spill in body if re.search(r"\b(LDL|STL)\b", spill)]))
    return loops
