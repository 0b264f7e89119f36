"""Publishes figures: benchmarks/results/ and the tables of docs/benchmark-tables.md, with the machine they are from."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from tridex.common.device import CPU
from tridex.common.installed import versions

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs" / "benchmark-tables.md"
STDLIB = "stdlib"
"""The corpus that benchmarks have where no other is given."""
SERVED = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "nvidia-pytriton")


def machine(packages: Sequence[str] = SERVED) -> dict[str, str | int]:
    """What the figures depend on."""
    return {
        **_gpu(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "python": platform.python_version(),
        **versions(packages),
    }


def device_name() -> str:
    """What results of this machine are filed under: the GPU's name, else the CPU's with its number of cores."""
    about = machine(())
    return re.sub(r"\W+", "-", str(about.get("gpu", f"{about['cpu']} {about['cores']} cores"))).lower().strip("-")


def filed(name: str, device: str, corpus: str = STDLIB) -> str:
    """The name of results, so that none replace another's: a corpus other than STDLIB, and a GPU, are in it."""
    return "-".join((name, *([] if corpus == STDLIB else [corpus]), *([] if device == CPU else [device_name()])))


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> dict[str, str | int]:
    if not torch.cuda.is_available():
        return {}
    query = ("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    driver = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]
    return {"gpu": torch.cuda.get_device_name(), "driver": driver, "cuda": str(torch.version.cuda)}


def publish(
    name: str,
    results: dict[str, object],
    table: str,
    packages: Sequence[str] = SERVED,
    section: str = "",
    docs: Path = DOCS,
) -> None:
    """Stores the figures under benchmarks/results/ and writes the table between its marks in `docs`.

    Args:
        name: Of the results file and of the marks. Missing marks, as of a device measured for the first time, are added
            at the end of `section`.
        results: The figures, for JSON.
        table: Markdown.
        packages: Whose versions the figures depend on.
        section: The heading below which missing marks are added.
        docs: The page.
    """
    about = machine(packages)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": about, **results}, indent=2) + "\n")
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    text = docs.read_text()
    if begin not in text:
        start = text.index(f"## {section}\n")
        after = text.find("\n## ", start) + 1 or len(text)
        text = f"{text[:after]}{begin}{end}\n{text[after:]}"
    before, _, rest = text.partition(begin)
    _, _, after_end = rest.partition(end)
    where = ", ".join(f"{key} {value}" for key, value in about.items())
    docs.write_text(f"{before}{begin}{table}\n\nMeasured on: {where}.\n{end}{after_end}")
