"""The decorator of the loops that numba compiles, and where it keeps them.

Compiling takes 9 s, loading 0.4. numba keeps what it compiled where NUMBA_CACHE_DIR is set; its keys are the version of
numba, the CPU and the age of a function's own file, but not the functions of other files that are compiled into it. So
a cache is for one state of this folder (tridex.serving.kernel_cache).
"""

from __future__ import annotations

import numba

compiled = numba.njit(nogil=True, cache=bool(numba.config.CACHE_DIR))  # type: ignore[attr-defined]  # set as numba starts
