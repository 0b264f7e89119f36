"""Runs a program that does not outlive the process that starts it: `python -I -S child.py PARENT PROGRAM ARGUMENT...`.

PARENT is that process's id. What the program starts does not outlive the program either, as long as it stays in its
process group, which is to be a new one. An orphaned process of a model can hang forever in the Python backend's own
attempt to end it, and Python code in it cannot prevent that.

The program may have as many file descriptors as the system lets it: every connection takes one, and the soft limit is
often 1,024.

A file of its own, run before the program, and not a `preexec_fn`: that would run Python between fork and exec, in a
process whose other threads' locks stay locked for ever.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time

_PR_SET_PDEATHSIG = 1
_LOOK_S = 0.1


def main(parent: int, program: list[str]) -> None:
    """Becomes the program. The kernel kills it when the *thread* that started it ends; exec keeps that so."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit(f"process {parent} ended before {program[0]} began")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pid = os.getpid()
    if os.fork() == 0:
        _end_with(pid)
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"{program[0]} cannot be run: {error.strerror}")


def _end_with(parent: int) -> None:
    """Ends the process group when the process's parent has ended."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
