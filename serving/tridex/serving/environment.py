"""Every environment variable that the served models read.

| variable     | meaning                                | default |
| ------------ | -------------------------------------- | ------- |
| TRIDEX_STORE | the folder that holds the collections  | none    |
"""

from __future__ import annotations

import os
from pathlib import Path

STORE = "TRIDEX_STORE"


def store_folder() -> Path:
    """Where the collections are. Raises KeyError with the variable's name where it is not set."""
    folder = os.environ.get(STORE)
    if not folder:
        raise KeyError(f"{STORE} is not set: it names the folder that holds the collections")
    return Path(folder)
