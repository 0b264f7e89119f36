"""What the commands that make collections without a server have in common."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tridex.building.errors import BuildError
from tridex.common.terminal.exits import INTERRUPTED, fail, failing
from tridex.protocol import limits

if TYPE_CHECKING:
    from tridex.kernels import Codec

StoreFolder = Annotated[Path, typer.Option(help="The folder that holds the collections.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard an unfinished build of that name first.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value when it is done.")]

REPOSITORY = Path("model_repository")
STORE = Path(".tridex/store")


@contextmanager
def making_a_collection() -> Iterator[None]:
    """Around the work of a command: errors and Ctrl-C end it with one line on standard error."""
    # A store's files are for their owner alone, as the server makes them.
    os.umask(0o077)
    with failing():
        try:
            yield
        except KeyboardInterrupt as interrupt:
            fail("stopped; the same command continues after the last commit", interrupt, INTERRUPTED)


def check_names(*names: str | None) -> None:
    """Raises BuildError for what cannot be a collection's name."""
    for name in names:
        if name is not None and not limits.COLLECTION_NAME.fullmatch(name):
            raise BuildError(f"{name!r} is no name; expected a name like {limits.COLLECTION_NAME.pattern}")


def codec_of(name: str) -> Codec:
    """The codec that `--codec` names. Raises BuildError where there is none."""
    from tridex.kernels import Codec

    known = [codec.value for codec in Codec]
    if name not in known:
        raise BuildError(f"--codec is {name!r}; expected one of: {', '.join(known)}")
    return Codec(name)
