"""Triton server as a process: finding it, starting, probing, supervising and stopping it."""

from .errors import ServerError
from .server import TritonServer

__all__ = ["ServerError", "TritonServer"]
