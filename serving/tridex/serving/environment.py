"""Every environment variable that the served models read.

| variable             | meaning                                            | default             |
| -------------------- | -------------------------------------------------- | ------------------- |
| TRIDEX_STORE         | the folder that holds the collections              | none                |
| TRIDEX_MEMORY_BUDGET | bytes for collections on the device that searches  | a share (memory.py) |
"""

from __future__ import annotations

import os
from pathlib import Path

STORE = "TRIDEX_STORE"
MEMORY_BUDGET = "TRIDEX_MEMORY_BUDGET"


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
