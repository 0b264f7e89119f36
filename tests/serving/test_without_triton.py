"""Serving on a CPU needs no Triton language, which its extras do not install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

BLOCKED = "import sys\nsys.modules['triton'] = None\n"
"""Importing triton raises ModuleNotFoundError from here on."""


def run(program: str) -> None:
    command = [sys.executable, "-c", BLOCKED + program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_is_imported_without_it() -> None:
    run(
        "import importlib, pkgutil, types\n"
        "sys.modules['triton_python_backend_utils'] = types.ModuleType('of Triton server')\n"
        "import tridex.building, tridex.encoding, tridex.index, tridex.kernels, tridex.serving\n"
        "for package in (tridex.building, tridex.encoding, tridex.index, tridex.kernels, tridex.serving):\n"
        "    for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):\n"
        "        if not module.name.startswith('tridex.kernels.gpu'):\n"
        "            importlib.import_module(module.name)\n"
    )
