"""Tridex on Modal: a container while there are requests, none otherwise (docs/guides/modal.md).

The store is on the container's disk: made of the newest backup on a volume at start, and backed up there after a write.
So one container writes; it is the only one (`max_containers`).
"""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal

if TYPE_CHECKING:
    from tridex.client import Client

STORE = "/data/store"
BACKUPS = "/backups"
START_S = 300

app = modal.App("tridex")
volume = modal.Volume.from_name("tridex-backups", create_if_missing=True)
image = modal.Image.from_dockerfile(
    "deploy/Dockerfile", context_dir=".", build_args={"TORCH_INDEX": os.environ.get("TORCH_INDEX", "")}
).entrypoint([])


@app.cls(
    image=image,
    volumes={BACKUPS: volume},
    cpu=4,
    memory=8192,
    max_containers=1,
    scaledown_window=300,
    startup_timeout=START_S,
)
@modal.concurrent(max_inputs=64)
class Tridex:
    """The server in the container, and its client."""

    @modal.enter()
    def start(self) -> None:
        """Restores the store and waits until the server is ready.

        A backup that cannot be restored is an error: on a new store, the next writes would take its place.
        """
        self._backing_up = threading.Lock()
        if any(Path(BACKUPS, "backups").glob("[!.]*")):
            subprocess.run(["tridex", "store", "restore", BACKUPS, "--store", STORE], check=True)
        # Loopback: Modal's own calls are the way in.
        arguments = ["tridex", "serve", "--host", "127.0.0.1", "--store", STORE, "--json"]
        self._server = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        if not self._server.stdout.readline():  # printed once it is ready
            raise RuntimeError("the server did not start: the log above says why")

    @modal.exit()
    def stop(self) -> None:
        """Answers what is under way."""
        self._server.terminate()
        self._server.wait()

    @modal.method()
    def search(self, collection: str, query: str, top_k: int = 10) -> list[dict[str, Any]]:
        """The best documents: id, score, text, metadata."""
        with self._client() as client:
            return [asdict(hit) for hit in client.search(collection, query, top_k=top_k)]

    @modal.method()
    def upsert(self, collection: str, documents: list[dict[str, Any]]) -> int:
        """Writes documents and backs the store up; the version that the write made."""
        with self._client() as client:
            version: int = client.upsert(collection, documents).version
        with self._backing_up:
            subprocess.run(["tridex", "store", "backup", BACKUPS, "--store", STORE], check=True)
            volume.commit()
        return version

    def _client(self) -> Client:
        from tridex.client import Client

        return Client("127.0.0.1:8001")
