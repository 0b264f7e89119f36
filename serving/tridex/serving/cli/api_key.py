"""The command line's `api-key`. Light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_line


def api_key(
    name: Annotated[str, typer.Argument(help="What the key is called in the file and in messages.")],
    file: Annotated[Path, typer.Option(help="The file of keys, made where there is none.", show_default=False)],
    rights: Annotated[list[str], typer.Option("--right", help="read, write or admin; may be repeated.")],
    collections: Annotated[
        list[str],
        typer.Option(
            "--collection", help="A collection that the key is for, or its name's beginning and *; may be repeated."
        ),
    ],
) -> None:
    """Make an API key: add its hash and rights to the file, and print the key, which is nowhere kept.

    A running server knows the key at once. To rotate one, add another, change the caller, then delete the first from
    the file.
    """
    with failing():
        from tridex.serving.access.key_file import Right, add_key

        try:
            granted = [Right(right) for right in rights]
        except ValueError:
            expected = ", ".join(right.value for right in Right)
            raise typer.BadParameter(f"--right is {rights}; expected some of: {expected}") from None
        print_line(add_key(file, name, granted, collections))
