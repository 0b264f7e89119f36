"""The command line's `export`. Light to import: torch and transformers are imported when it runs."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tridex.common.terminal.exits import failing
from tridex.common.terminal.output import print_json

if TYPE_CHECKING:
    from tridex.encoding import Artifact


def export(
    model: Annotated[
        str,
        typer.Argument(help="A folder, a Hub id, `default` (our MiniLM) or `untrained` (it with a random projection)."),
    ] = "default",
    precision: Annotated[str, typer.Option(help="fp32, fp16, or int8 for CPUs.")] = "fp32",
    repository: Annotated[Path, typer.Option(help="The Triton server model repository.")] = Path("model_repository"),
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    tensorrt: Annotated[bool, typer.Option("--tensorrt", help="Build a TensorRT engine too, with trtexec.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON on standard output.")] = False,
) -> None:
    """Export a ColBERT checkpoint, check it against the original, and publish it to the model repository."""
    console = Console(stderr=True, log_path=False)
    with failing(), console.status("start") as status:
        from tridex.export import BUILT_IN, export_checkpoint, export_default

        _silence_libraries()

        def on_stage(stage: str) -> None:
            status.update(stage)
            console.log(Text(stage))

        if model in BUILT_IN:
            artifact = export_default(repository, name=model, precision=precision, tensorrt=tensorrt, on_stage=on_stage)
        else:
            artifact = export_checkpoint(
                model,
                repository=repository,
                precision=precision,
                revision=revision,
                tensorrt=tensorrt,
                on_stage=on_stage,
            )
    if as_json:
        print_json({"path": str(artifact.directory), **artifact.manifest.to_dict()})
    else:
        console.print(_table(artifact))


def _table(artifact: Artifact) -> Table:
    manifest = artifact.manifest
    table = Table(title=f"{manifest.source} ({manifest.checkpoint_format}), {manifest.precision}", show_header=False)
    expansion = manifest.rules.expansion
    table.add_row("backbone", manifest.architecture)
    table.add_row("dimensions", str(manifest.dim))
    table.add_row("query", f"up to {manifest.rules.query.length} tokens, prefix {manifest.rules.query.prefix!r}")
    table.add_row(
        "document", f"up to {manifest.rules.document.length} tokens, prefix {manifest.rules.document.prefix!r}"
    )
    table.add_row("expansion", f"{expansion.strategy}, {expansion.length} tokens" if expansion else "none")
    for name, value in manifest.parity.items():
        table.add_row(name.replace("_", " "), f"{value:.3g}" if "error" in name else f"{value:.6f}")
    table.add_row("fingerprint", manifest.fingerprint[:16])
    table.add_row("published", str(artifact.directory))
    return table


def _silence_libraries() -> None:
    """Keeps the libraries' warnings off the terminal: what matters of them comes back as an error."""
    warnings.filterwarnings("ignore")
    import torch.onnx  # noqa: F401  (sets the levels of its loggers when imported)

    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
