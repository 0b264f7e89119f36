"""Every environment variable that the served models read.

| variable               | meaning                                                       | default             |
| ---------------------- | ------------------------------------------------------------- | ------------------- |
| TRIDEX_STORE           | the folder that holds the collections                         | none                |
| TRIDEX_MEMORY_BUDGET   | bytes for collections on the device that searches             | a share (memory.py) |
| TRIDEX_RECALL_SAMPLE_RATE | share of the searches by candidates that are run exactly, too | 0.01                |
| TRIDEX_RUN             | the run folder (run_folder.py); `tridex serve` sets it            | none                |
"""

from __future__ import annotations

import os
from pathlib import Path

from .run_folder import GATE

STORE = "TRIDEX_STORE"
MEMORY_BUDGET = "TRIDEX_MEMORY_BUDGET"
RECALL_SAMPLE_RATE = "TRIDEX_RECALL_SAMPLE_RATE"
RUN = "TRIDEX_RUN"


def store_folder() -> Path:
    """Where the collections are. Raises KeyError with the variable's name where it is not set."""
    folder = os.environ.get(STORE)
    if not folder:
        raise KeyError(f"{STORE} is not set: it names the folder that holds the collections")
    return Path(folder)


def memory_budget() -> int | None:
    """Bytes for collections, where somebody said so. Raises ValueError."""
    said = os.environ.get(MEMORY_BUDGET)
    return int(said) if said else None


def recall_sample_rate() -> float:
    """From 0 to 1. Raises ValueError with the variable's name where it is anything else."""
    given = os.environ.get(RECALL_SAMPLE_RATE, "0.01")
    try:
        share = float(given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"{RECALL_SAMPLE_RATE} is {given!r}; expected a number from 0 to 1")
    return share


def run_folder() -> Path | None:
    """Where models report, where `tridex serve` started them."""
    folder = os.environ.get(RUN)
    return Path(folder) if folder else None


def gate_file() -> Path | None:
    """Where lanes say how long requests wait, where `tridex serve` started them."""
    folder = run_folder()
    return folder and folder / GATE
