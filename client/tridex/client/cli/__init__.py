"""The command line `tridex`: what the client does, and the commands of the parts that are installed beside it.

Results go to stdout, as tables or with --json as one JSON value; progress and errors go to stderr.
"""

from .app import create_app, main

__all__ = ["create_app", "main"]
