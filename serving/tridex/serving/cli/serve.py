"""The command line's `serve`. Light to import: the server's own imports wait until it runs."""

from __future__ import annotations

import contextlib
import json
import re
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(
    repository: Annotated[Path, typer.Option(help="The model repository, with an exported encoder.")] = Path(
        "model_repository"
    ),
    store: Annotated[Path, typer.Option(help="The folder that holds the collections.")] = Path(".tridex/store"),
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
        typer.Option(help="Memory for collections on the device, as 20GB or 512MiB; by default a share of it."),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="The server's log; beside the store when not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output when ready.")] = False,
) -> None:
    """Run Triton Inference Server on a model repository until it is asked to end."""
    from tridex.serving.server import ServerError, TritonServer

    console = Console(stderr=True)
    server = TritonServer(
        repository,
        store,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        metrics_port=metrics_port,
        metrics_host=metrics_host,
        http_inference=http_inference,
        log=log,
        memory_budget=_bytes(memory_budget) if memory_budget else None,
    )
    for ending in _ENDING:
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(ending, _interrupt)
    try:
        with console.status("starting the server and warming up its models"):
            server.start()
        if as_json:
            typer.echo(json.dumps({"address": server.address, "pid": server.pid, "log": str(server.log)}))
        else:
            console.print(
                f"[green]Ready[/] on {server.address} (gRPC), {host}:{http_port} "
                f"({'HTTP' if http_inference else 'health'}), {metrics_host}:{metrics_port} (metrics). "
                f"Log: {escape(str(server.log))}\n\n"
                f"  tridex stats --address {server.address}\n"
                f"  tridex index add corpus.jsonl --collection NAME --address {server.address}\n"
                f'  tridex search NAME "your question" --address {server.address}\n\n'
                "Ctrl-C stops it."
            )
        server.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(OSError):  # the terminal is closed
            console.print("stopping")
    except ServerError as error:
        console.print(f"[red]tridex serve:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    finally:
        server.stop()


def _bytes(given: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?", given.strip(), re.IGNORECASE)
    size = float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " ") if match else 0
    if size < 1:
        raise typer.BadParameter(f"{given!r}; expected a number of bytes, as 20GB, 512MiB or 20000000000")
    return int(size)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    for ending in _ENDING:
        signal.signal(ending, signal.SIG_IGN)  # stopping has a limit of time, and must not be interrupted
    raise KeyboardInterrupt
