"""Calls without retries, begun at a steady pace whatever becomes of those before: how each ended, and how soon."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import grpc
import kserve
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.protocol import models, parameters

_EVERY_S = 0.05
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
"""A connection that pauses between attempts answers by itself meanwhile; the server is to be asked."""


@dataclass(frozen=True)
class Probe:
    """One call."""

    began_s: float
    """By the monotonic clock."""
    seconds: float
    status: str
    """gRPC's name of it."""


class Probes:
    """Searches and reads of a collection, in turns, from when it is made until it ends."""

    def __init__(self, address: str, collection: str, timeout_s: float) -> None:
        self.ended: list[Probe] = []
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(address, options=[*_RECONNECT, ("grpc.use_local_subchannel_pool", 1)])
        self._call = rpc.GRPCInferenceServiceStub(self._channel).ModelInfer
        about: dict[str, Any] = {parameters.COLLECTION: collection, "timeout": int(timeout_s * 1e6)}
        count = {parameters.OPERATION: "count", **about}
        self._requests = [
            kserve.request(models.SEARCH.name, {models.QUERY.name: [["a planet"]]}, [models.IDS.name], **about),
            kserve.request(models.CATALOG.name, {models.CATALOG_IDS.name: [[]]}, **count),
        ]
        self._under_way = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> list[Probe]:
        """Begins no more, and returns all when each has ended, which it does by its timeout."""
        self._stop.set()
        self._thread.join()
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)
        self._channel.close()
        return self.ended

    def _run(self) -> None:
        while not self._stop.wait(_EVERY_S):
            request = self._requests[0]
            self._requests.reverse()
            began = time.monotonic()
            with self._changed:
                self._under_way += 1
            call = self._call.future(request, timeout=self._timeout_s)
            call.add_done_callback(lambda call, began=began: self._note(call, began))

    def _note(self, call: Any, began: float) -> None:
        with self._changed:
            self.ended.append(Probe(began, time.monotonic() - began, call.code().name))
            self._under_way -= 1
            self._changed.notify_all()
