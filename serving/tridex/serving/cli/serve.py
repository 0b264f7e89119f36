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
    http_port: Annotated[int, typer.Option(help="For health checks, and with --http-inference for requests.")] = 8000,
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
        typer.Option(help="Where compiled kernels are kept; by default kernel-cache beside the store."),
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
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(help="Where traces are sent, by OTLP over HTTP; nowhere by default. Needs the extra tracing."),
    ] = None,
    trace_sample_rate: Annotated[
        float,
        typer.Option(help="Share of the requests that are traced, of those whose caller sends no trace of its own."),
    ] = 0.01,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="Who may call, and with which rights; `tridex api-key` writes it. Everybody may where there is none."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            help="The server's certificate, and those between it and its authority: gRPC, health and metrics are "
            "encrypted."
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's private key.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            help="The authorities of clients' certificates: gRPC and metrics are for clients that have one (mutual "
            "TLS)."
        ),
    ] = None,
    grpc_keepalive_s: Annotated[
        float,
        typer.Option(help="A connection that is silent for this long is asked whether its client is there."),
    ] = 7200.0,
    grpc_max_connection_age_s: Annotated[
        float | None,
        typer.Option(
            help="A connection is closed, and its client connects anew, after this time, so that clients spread over "
            "the servers behind one address."
        ),
    ] = None,
    grpc_compression: Annotated[str, typer.Option(help="How much answers are compressed.")] = "none",
    log_verbosity: Annotated[int, typer.Option(help="How much Triton server logs beside errors.")] = 0,
    start_timeout_s: Annotated[
        float, typer.Option(help="How long a start may take until every model is ready.")
    ] = 180.0,
    stop_timeout_s: Annotated[
        float, typer.Option(help="How long requests in flight may take when the server stops.")
    ] = 20.0,
    log: Annotated[
        Path | None, typer.Option(help="The server's log; by default STORE.log beside the folder STORE.")
    ] = None,
    log_format: Annotated[str, typer.Option(help="One record a line in the log, as text or as JSON.")] = "plain",
    log_size: Annotated[
        str, typer.Option(help="The log's size at which it is rotated; five older files are kept.")
    ] = "100MB",
    config: Annotated[
        Path | None,
        typer.Option(
            envvar="TRIDEX_CONFIG", help="A TOML file of settings that neither flags nor the environment give."
        ),
    ] = None,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print every setting and where it is from, as such a file, and exit."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output when ready.")] = False,
) -> None:
    """Run Triton Inference Server on a model repository until it is asked to end.

    Every flag is a setting that the environment may set as well, --grpc-port as TRIDEX_GRPC_PORT.
    """
    from tridex.serving.server import ServerError, TritonServer
    from tridex.serving.settings import InvalidSettingError, ServerSettings, misspelt

    flags = {name: context.params[name] for name in ServerSettings.model_fields if _is_given(context, name)}
    try:
        chosen = ServerSettings.load(flags, config)
    except InvalidSettingError as error:
        fail(str(error), error, USAGE)
    for sentence in misspelt():
        typer.echo(sentence, err=True)
    if print_config:
        typer.echo(chosen.to_toml(flags, config), nl=False)
        return
    server = TritonServer(chosen)
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
