"""The command line's `serve`. Light to import: the server's own imports wait until it runs."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tridex.common.terminal.ending import interrupt_on_ending
from tridex.common.terminal.exits import USAGE, fail


def serve(
    context: typer.Context,
    repository: Annotated[Path, typer.Option(help="The model repository, with an exported encoder.")] = Path(
        "model_repository"
    ),
    store: Annotated[Path, typer.Option(help="The folder that holds the collections.")] = Path(".tridex/store"),
    device: Annotated[
        str,
        typer.Option(
            help="What encodes and searches: cpu, cuda, cuda:1 or auto, which is the first GPU where it can be used, "
            "and the CPU otherwise."
        ),
    ] = "auto",
    host: Annotated[str, typer.Option(help="The address to listen on, for clients and health checks.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option(help="For clients.")] = 8001,
    http_port: Annotated[int, typer.Option(help="For health checks.")] = 8000,
    metrics_port: Annotated[int, typer.Option(help="For Prometheus.")] = 8002,
    metrics_host: Annotated[str, typer.Option(help="The address that metrics listen on.")] = "127.0.0.1",
    http_inference: Annotated[
        bool,
        typer.Option(
            "--http-inference",
            help="Turn on Triton server's own HTTP on the HTTP port, for requests to models. In releases before 25.07, "
            "as the embedded one, whoever reaches it can end the server.",
        ),
    ] = False,
    memory_budget: Annotated[
        str | None,
        typer.Option(
            help="Memory for collections on the device, as 20GB or 512MiB; by default half of the host's memory, or of "
            "a GPU's what is free at start, less what encoder and searches need."
        ),
    ] = None,
    kernel_cache: Annotated[
        Path | None,
        typer.Option(help="Where a GPU's compiled kernels are kept; by default kernel-cache beside the store."),
    ] = None,
    tensorrt: Annotated[
        bool,
        typer.Option(
            "--tensorrt",
            help="Have TensorRT encode searches on a GPU; its libraries have to be installed. The first start takes "
            "minutes more.",
        ),
    ] = False,
    recall_sample_rate: Annotated[
        float,
        typer.Option(help="Share of the approximate searches that are repeated exactly to measure their recall."),
    ] = 0.01,
    log: Annotated[
        Path | None, typer.Option(help="The server's log; by default tritonserver.log beside the store.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="A file of lines TRIDEX_NAME=value, for what neither flags nor the environment set."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output when ready.")] = False,
) -> None:
    """Run Triton Inference Server on a model repository until it is asked to end.

    Every flag is a setting that the environment may set as well, --grpc-port as TRIDEX_GRPC_PORT.
    """
    from tridex.serving.server import ServerError, TritonServer
    from tridex.serving.settings import InvalidSettingError, ServerSettings

    flags = {name: context.params[name] for name in ServerSettings.model_fields if _is_given(context, name)}
    try:
        chosen = ServerSettings.load(flags, settings)
    except InvalidSettingError as error:
        fail(str(error), error, USAGE)
    server = TritonServer(**dict(chosen))
    console = Console(stderr=True)
    interrupt_on_ending()
    try:
        with console.status("starting the server and warming up its models"):
            server.start()
        if as_json:
            typer.echo(
                json.dumps(
                    {"address": server.address, "device": server.device, "pid": server.pid, "log": str(server.log)}
                )
            )
        else:
            console.print(
                f"[green]Ready[/] on {server.device}: {server.address} (gRPC), {chosen.host}:{chosen.http_port} "
                f"({'HTTP' if chosen.http_inference else 'health'}), "
                f"{chosen.metrics_host}:{chosen.metrics_port} (metrics). Log: {escape(str(server.log))}\n\n"
                f"  tridex stats --address {server.address}\n"
                f"  tridex index add corpus.jsonl --collection NAME --address {server.address}\n"
                f'  tridex search NAME "your question" --address {server.address}\n\n'
                "Ctrl-C stops it."
            )
        server.wait()
    except KeyboardInterrupt:
        server.begin_to_stop()  # before the message, which may wait for a disk
        with contextlib.suppress(OSError):  # the terminal is closed
            typer.echo("stopping", err=True)
    except ServerError as error:
        fail(str(error), error)
    finally:
        server.stop()


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether the command line has this option: a default must not go before the environment."""
    source = context.get_parameter_source(name)
    # By name, as Typer carries a copy of Click with an enumeration of its own.
    return source is not None and source.name == "COMMANDLINE"
