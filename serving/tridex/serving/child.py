"""Runs a program that does not outlive the process that starts it: `python -I -S child.py PARENT PROGRAM ARGUMENT...`.

PARENT is that process's id. A file of its own, run before the program, and not a `preexec_fn`: that would run Python
between fork and exec, in a process whose other threads' locks stay locked for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, program: list[str]) -> None:
    """Becomes the program. The kernel kills it when the *thread* that started it ends; exec keeps that so."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(f"process {parent} ended before {program[0]} began")
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"{program[0]} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
