"""Two servers on one store: the second one reads, writes nothing and says who does; and it is open to the network."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from ipaddress import ip_address

import pytest
from eventually import eventually
from serve import Serve
from servers import free_ports, lives

from benchmarks.processes import processes
from tridex.client import Client, Document, ReadOnly
from tridex.protocol.parameters import IngestOperation
from tridex.serving.server import TritonServer
from tridex.serving.server.leftovers import remove_leftovers

COLLECTION = "two-servers"
DOCUMENTS = [Document(f"d{i}", f"document number {i}", {"year": 2000 + i}) for i in range(3)]


@pytest.fixture(scope="module")
def first(server: TritonServer) -> Iterator[TritonServer]:
    """The one that writes."""
    with Client(server.address, timeout_s=60) as client:
        client.upsert(COLLECTION, DOCUMENTS)
        client.set_alias("two-servers-view", COLLECTION)
        yield server
        client.drop_alias("two-servers-view")
        client.drop_collection(COLLECTION)


@pytest.fixture(scope="module")
def second(first: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    second = Serve(first.repository, tmp_path_factory.mktemp("second"), "--host", "0.0.0.0", store=first.store)
    yield second
    second.end()


@pytest.fixture
def reader(second: Serve) -> Iterator[Client]:
    with Client(f"127.0.0.1:{second.grpc_port}", timeout_s=60) as client:
        yield client


def test_it_says_before_it_is_ready_who_writes(first: TritonServer, second: Serve) -> None:
    said = f"another server writes to the store {first.store} (process {_writer(first)} on "
    eventually(lambda: said in second.log.read_text())
    (record,) = [line for line in second.log.read_text().splitlines() if said in line]
    at, level, source, _ = record.split(" ", 3)
    assert (level, source) == ("WARNING", "ingest:")
    assert datetime.fromisoformat(at.replace("Z", "+00:00")) < second.ready_at


WRITES: dict[IngestOperation, Callable[[Client], object]] = {
    IngestOperation.UPSERT: lambda client: client.upsert(COLLECTION, [Document("d0", "overwritten")]),
    IngestOperation.DELETE: lambda client: client.delete(COLLECTION, ["d0"]),
    IngestOperation.CLEAR: lambda client: client.clear(COLLECTION),
    IngestOperation.UPDATE_METADATA: lambda client: client.update_metadata(COLLECTION, ["d0"], metadata={"year": 1}),
    IngestOperation.CHANGE_FIELDS: lambda client: client.drop_fields(COLLECTION, ["year"]),
    IngestOperation.CREATE: lambda client: client.create_collection("two-servers-new"),
    IngestOperation.DROP: lambda client: client.drop_collection(COLLECTION),
    IngestOperation.SET_ALIAS: lambda client: client.set_alias("two-servers-new", COLLECTION),
    IngestOperation.DROP_ALIAS: lambda client: client.drop_alias("two-servers-view"),
    IngestOperation.COMPACT: lambda client: client.compact(COLLECTION),
}


def test_it_refuses_every_write_and_says_who_writes(first: TritonServer, reader: Client) -> None:
    assert WRITES.keys() == set(IngestOperation)
    lock = (first.store / ".writer").read_bytes()
    why = rf"another server writes .*\(process {_writer(first)} on .*\): .*refuses writes; write through that one"
    with Client(first.address, timeout_s=60) as writer:
        before = writer.describe_collection(COLLECTION)
        for write in WRITES.values():
            with pytest.raises(ReadOnly, match=why):
                write(reader)
        assert writer.describe_collection(COLLECTION) == before
        assert writer.get(COLLECTION, [document.id for document in DOCUMENTS]) == DOCUMENTS
        assert writer.aliases()["two-servers-view"] == COLLECTION
        assert "two-servers-new" not in {info.name for info in writer.collections()} | writer.aliases().keys()
    assert (first.store / ".writer").read_bytes() == lock


def test_it_answers_searches_with_what_the_first_one_writes(first: TritonServer, reader: Client) -> None:
    with Client(first.address, timeout_s=60) as writer:
        writer.upsert(COLLECTION, [Document("later", "a document that came later")])
        eventually(lambda: reader.search(COLLECTION, "that came later")[0].id == "later")
        writer.delete(COLLECTION, ["later"])
        assert reader.count(COLLECTION) == len(DOCUMENTS)


def test_one_with_the_same_log_does_not_start(first: TritonServer, second: Serve) -> None:
    before = first.log.read_bytes()
    ports = zip(("--grpc-port", "--http-port", "--metrics-port"), map(str, free_ports(3)), strict=True)
    options = ["--host", "127.0.0.1", "--log", str(first.log), *(word for pair in ports for word in pair)]
    done = subprocess.run([*second.command, *options], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"tridex: another server writes to the log {first.log}; choose another by --log\n"
    assert first.log.read_bytes().startswith(before)


def test_open_to_the_network_are_the_two_ports_for_clients_and_probes(second: Serve) -> None:
    open_ports = {port for host, port in second.listening if not ip_address(host).is_loopback}
    assert open_ports == {second.grpc_port, second.http_port}
    assert ("127.0.0.1", second.metrics_port) in second.listening


def test_another_on_its_ports_names_who_has_them_and_all_ends_with_the_launcher(second: Serve) -> None:
    another = subprocess.run(second.command, check=False, capture_output=True, text=True, timeout=60)
    assert another.returncode == 1
    assert f"grpc port {second.grpc_port} on 0.0.0.0 is in use by process {second.launcher.pid}" in another.stderr
    assert another.stderr.count("\n") == 1

    processes = second.processes
    assert second.process_of("encoder") in processes
    second.launcher.kill()
    eventually(lambda: not any(map(lives, processes)))
    second.launcher.wait()
    remove_leftovers()
    assert second.left() == []


def _writer(server: TritonServer) -> int:
    """The process of a server's that writes."""
    return processes(server.pid)["ingest"].pid
