import subprocess
import sys

from tridex import kernels


def test_public_names_are_there() -> None:
    assert all(hasattr(kernels, name) for name in kernels.__all__)


def test_import_loads_neither_compiler() -> None:
    """Each takes a second; a process on a CPU needs no triton, one on a GPU no numba."""
    code = "import sys, tridex.kernels; print(sorted({'triton', 'numba'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
