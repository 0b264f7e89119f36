"""The command line's `warm-up`. Light to import: the compiler's own imports wait until it runs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from tridex.common.terminal.exits import USAGE, fail, failing
from tridex.common.terminal.output import print_line


def warm_up(
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            "--gpu",
            help="What to compile for, as sm_90; may be repeated. The GPU of --device if left out.",
            metavar="SM",
        ),
    ] = None,
    codecs: Annotated[
        list[str] | None,
        typer.Option("--codec", help="For collections in this codec; may be repeated. Those of the store if left out."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="As `tridex serve` takes it.", show_default=False)] = None,
    repository: Annotated[Path | None, typer.Option(help="The model repository, likewise.", show_default=False)] = None,
    store: Annotated[
        Path | None, typer.Option(help="The folder for the collections, likewise.", show_default=False)
    ] = None,
    kernel_cache: Annotated[
        Path | None, typer.Option(help="Where compiled kernels are kept, likewise.", show_default=False)
    ] = None,
    config: Annotated[Path | None, typer.Option(envvar="TRIDEX_CONFIG", help="The file of settings, likewise.")] = None,
) -> None:
    """Compile a GPU's kernels into the cache that `tridex serve` looks in, as for an image.

    With --gpu it needs no GPU. The cache must be in the same folder when the server runs.
    """
    from tridex.serving.settings import InvalidSettingError, ServerSettings

    given = {"device": device, "repository": repository, "store": store, "kernel_cache": kernel_cache}
    try:
        chosen = ServerSettings.load({name: value for name, value in given.items() if value is not None}, config)
        capabilities = [_capability(name) for name in gpus or ()]
    except (InvalidSettingError, ValueError) as error:
        fail(str(error), error, USAGE)
    began = time.perf_counter()
    os.umask(0o077)  # as the server's files are
    with failing():
        from tridex.serving.kernel_cache import fill_cache

        compiled = fill_cache(chosen, capabilities, codecs)
    seconds = time.perf_counter() - began
    print_line(f"Compiled {', '.join(codec.value for codec in compiled)} in {seconds:,.0f} s")


def _capability(name: str) -> int:
    """90 of "sm_90"."""
    match = re.fullmatch(r"(?:sm_)?([1-9][0-9]{1,2})", name)
    if match is None or int(match[1]) < 80:
        raise ValueError(f"--gpu is {name!r}; expected sm_80 or newer, as sm_90")
    return int(match[1])
