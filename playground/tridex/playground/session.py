"""One session of the playground: reads the file, starts the server, indexes, serves the page, stops all of it."""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import typer
import uvicorn
from rich.console import Console

from tridex.client import AsyncClient, Client, Document, NotFound
from tridex.client.batches import DEFAULT_BATCH_SIZE
from tridex.client.cli.documents import DocumentStream, checked, upsert_stream
from tridex.common import TridexError
from tridex.common.terminal.ending import interrupt_on_ending
from tridex.common.terminal.output import printable
from tridex.encoding import ArtifactError, latest_version_dir
from tridex.protocol import models
from tridex.protocol.columns import Columns
from tridex.protocol.corpus import CorpusDocument, CorpusError
from tridex.protocol.sources import Source, open_source
from tridex.serving.server import TritonServer
from tridex.serving.settings import ServerSettings

from .app import Playground, create_app
from .codec_costs import EXACT, CodecCosts, served_costs
from .guessing import NumberedRows, guess_columns
from .local_ranking import Advance, LocalRanking, Ranker
from .timing import stages_at

HOST = "127.0.0.1"
"""Server and page listen here alone."""
_DEFAULT_BI_ENCODER = "default"
_LONGEST_NAME = 48
"""Of a collection, to which the names of codecs are added."""
_EXAMPLES = 24
_EXAMPLE_WORDS = 8
_PATIENCE_S = 20.0
"""Of the page, for the server."""
_WRITING_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Choices:
    """What the command line says."""

    path: Path
    id_column: str | None
    text_columns: tuple[str, ...]
    fields: Mapping[str, str]
    store: Path | None
    repository: Path
    bi_encoder: str
    device: str
    port: int
    opens_browser: bool = False


def run(choices: Choices) -> None:
    """Serves the page until the process is asked to end.

    Raises:
        CorpusError: A row is no document; nothing has been started then.
        TridexError: The encoder cannot be exported, the server does not start or refuses a document. OSError.
    """
    columns = guess_columns(choices.path, Columns(choices.id_column, choices.text_columns))
    source = open_source(choices.path, columns)
    total = sum(bool(row.text) for _, row in checked(source.rows(), distinct=True))
    if not total:
        raise CorpusError(f"{choices.path} holds no document with a text")
    console = Console(stderr=True, highlight=False)
    console.print(f"{total:,} documents; {in_words(columns)}", markup=False, soft_wrap=True)
    interrupt_on_ending()
    with ExitStack() as held:
        page = held.enter_context(socket.socket())
        page.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        page.bind((HOST, choices.port))
        data = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="tridex-try-")))
        try:
            _ensure_encoder(choices.repository)
            server = _server(choices, choices.store or data / "store", console, held)
            playground = _index(choices, source, total, columns, server, data, console)
            held.callback(playground.costs.close)
            held.callback(playground.local.close)
            playground.local.start()
            config = uvicorn.Config(create_app(playground), log_level="warning", timeout_graceful_shutdown=1)
            page.listen()
            url = f"http://{HOST}:{page.getsockname()[1]}"
            if choices.opens_browser and _has_display():
                typer.launch(url)
            console.print(
                f"\n  [bold]{url}[/]\n\n"
                f'  tridex search {playground.collection} "your question" --address {server.address}\n\n'
                "Ctrl-C ends the page and the server.",
                soft_wrap=True,
            )
            uvicorn.Server(config).run(sockets=[page])
        except KeyboardInterrupt:
            console.print("stopping")


def _has_display() -> bool:
    """Whether there is somewhere to open a window: without one, a browser of text would take the terminal."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def in_words(columns: Columns) -> str:
    """Which columns ids and texts are read from."""
    ids = "numbered by line" if isinstance(columns, NumberedRows) else f"ids from {columns.id}"
    texts = " and ".join(columns.text) or "title and text"
    return printable(f"{ids}, texts from {texts}")


def collection_name(path: Path) -> str:
    """The file's name as that of a collection."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.name.split(".")[0]).strip("-_")[:_LONGEST_NAME] or "documents"


def example_questions(documents: Sequence[str]) -> list[str]:
    """The beginnings of some texts, evenly spread; each once."""
    step = max(1, len(documents) // _EXAMPLES)
    beginnings = (re.split(r"(?<=[.!?])\s|\n", text.strip(), maxsplit=1)[0] for text in documents[::step])
    return list(dict.fromkeys(" ".join(first.split()[:_EXAMPLE_WORDS]) for first in beginnings))[:_EXAMPLES]


def _ensure_encoder(repository: Path) -> None:
    """Exports the default checkpoint where the repository has none."""
    try:
        latest_version_dir(repository / models.ENCODER.name)
    except ArtifactError:
        from tridex.export.cli.export import export

        export(repository=repository)


def _server(choices: Choices, store: Path, console: Console, held: ExitStack) -> TritonServer:
    """A running server on ports that nothing else has, which ends with `held`."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in sockets:
            one.bind((HOST, 0))
        grpc_port, http_port, metrics_port = (one.getsockname()[1] for one in sockets)
    server = TritonServer(
        ServerSettings(
            repository=choices.repository,
            store=store,
            device=choices.device,
            host=HOST,
            metrics_host=HOST,
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            # Loopback alone; keys and certificates of the environment are another server's.
            api_key_file=None,
            tls_cert=None,
            tls_key=None,
            client_ca=None,
        )
    )
    held.callback(server.stop)
    with console.status("starting the server and warming up its models"):
        server.start()
    return server


def _index(
    choices: Choices, source: Source, total: int, columns: Columns, server: TritonServer, data: Path, console: Console
) -> Playground:
    """Writes the documents. Those that a kept store holds already stay as they are."""
    name = collection_name(choices.path)
    with Client(server.address, timeout_s=_WRITING_PATIENCE_S) as client:
        try:
            codec = client.describe_collection(name).codec
        except NotFound:
            codec = client.create_collection(name, codec=EXACT, fields=dict(choices.fields) or None).codec
        if codec != EXACT:
            raise TridexError(f"--store: collection {name!r} is stored as {codec}; expected {EXACT}, or another folder")
        documents = DocumentStream(source.rows(), DEFAULT_BATCH_SIZE, distinct=False)
        upsert_stream(client, name, documents, None, if_exists="skip", total=total, show_progress_bar=True)
        info = client.describe_collection(name)
    if info.count != total:
        raise TridexError(
            f"--store: collection {name!r} holds {info.count - total:,} documents that {choices.path} has not; "
            "expected another folder, or another name of the file"
        )
    shown = ", ".join(f"{field}:{kind}" for field, kind in info.fields.items())
    console.print(f"Fields that filters can ask for: {shown or 'none'}", markup=False, soft_wrap=True)
    texts = [document.text for document in _documents(source)]
    return Playground(
        client=AsyncClient(server.address, timeout_s=_PATIENCE_S),
        address=server.address,
        collection=name,
        source=choices.path.name,
        columns=in_words(columns),
        local=LocalRanking(lambda advance: _bi_encoder(choices.bi_encoder, name, source, data, advance), total),
        costs=CodecCosts(served_costs(server.address, name, server.store, server.repository)),
        read_stages=stages_at(f"http://{HOST}:{server.ports['metrics']}/metrics"),
        examples=example_questions(texts),
    )


def _bi_encoder(model: str, name: str, source: Source, cache: Path, advance: Advance) -> Ranker:
    """Raises ImportError, CheckpointError or whatever loading a model raises."""
    from tridex.evaluation import BiEncoder
    from tridex.evaluation.dataset import Dataset
    from tridex.export import backbone_dir

    encoder = BiEncoder(str(backbone_dir()) if model == _DEFAULT_BI_ENCODER else model, cache)
    encoder.index(Dataset(name, "", {}, {}, lambda: _documents(source)), advance)
    return encoder


def _documents(source: Source) -> Iterator[Document]:
    """Those that have a text."""
    for _, row in source.rows():
        if isinstance(row, CorpusDocument) and row.text:
            yield Document(*row)
