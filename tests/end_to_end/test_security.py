"""API keys and mutual TLS on the real server: who gets in, on every port, and what nobody may do."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import kserve
import numpy as np
import psutil
import pytest
from certificates import Authority
from control_calls import CALLS, HEALTH, ask
from eventually import eventually
from fuzz_requests import REACHABLE
from servers import new_server
from tritonclient.grpc import service_pb2_grpc as rpc

from tridex.client import (
    TLS,
    Client,
    Document,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from tridex.serving.access.key_file import Right, add_key
from tridex.serving.server import ServerError, TritonServer

DOCUMENTS = [Document("1", "late interaction keeps every token", {"year": 2020})]

TEXT = [["late interaction"]]
INPUTS: dict[str, kserve.Inputs] = {
    "search": {"QUERY": TEXT},
    "ingest": {"ID": TEXT},
    "catalog": {"IDS": TEXT},
    "encode_query": {"QUERY": TEXT},
    "encode_document": {"DOCUMENT": TEXT},
    "rerank": {"QUERY": TEXT, "DOCUMENTS": TEXT},
    "maxsim": {"QUERY_EMBEDDINGS": np.ones((1, 2, 128), np.float32), "QUERY_MASK": np.ones((1, 2), np.int64)},
}


@dataclass(frozen=True)
class Secured:
    """A server with keys and mutual TLS."""

    server: TritonServer
    authority: Authority
    tls: TLS
    keys: Path
    admin: str

    def client(self, key: str | None, tls: TLS | None = None) -> Client:
        return Client(self.server.address, timeout_s=60, api_key=key, tls=tls or self.tls)

    def new_key(self, name: str, *rights: Right, collections: tuple[str, ...] = ("*",)) -> str:
        return add_key(self.keys, name, rights, collections)


@pytest.fixture(scope="module")
def secured(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder, "authority")
    server, client = authority.issue("server"), authority.issue("client")
    keys = folder / "keys.toml"
    admin = add_key(keys, "admin", list(Right), ["*"])
    chosen = {"tls_cert": server.cert, "tls_key": server.key, "client_ca": authority.cert, "api_key_file": keys}
    with new_server(repository, folder / "data" / "store", **chosen, log_verbosity=2) as running:
        secured = Secured(running, authority, TLS(authority.cert, client.cert, client.key), keys, admin)
        with secured.client(admin) as connected:
            connected.upsert("docs", DOCUMENTS)
            connected.upsert("team-a-docs", DOCUMENTS)
        yield secured


def client_context(secured: Secured, *, certificate: bool = True) -> ssl.SSLContext:
    """As a client's that knows the authority, and has its own certificate or none."""
    context = ssl.create_default_context(cafile=str(secured.tls.ca))
    if certificate:
        context.load_cert_chain(str(secured.tls.certificate), str(secured.tls.key))
    return context


def test_a_key_with_every_right_does_everything(secured: Secured) -> None:
    with secured.client(secured.admin) as client:
        client.create_collection("made")
        client.upsert("made", DOCUMENTS)
        assert [hit.id for hit in client.search("made", "late interaction")] == ["1"]
        assert client.rerank("late", ["interaction"])[0].index == 0
        assert len(client.encode_query("late")) and len(client.encode_document("interaction"))
        client.set_alias("now", "made")
        assert client.count("now") == 1
        client.drop_alias("now")
        client.drop_collection("made")
        assert {info.name for info in client.collections()} >= {"docs", "team-a-docs"}


def test_without_a_key_or_with_a_wrong_one_no_model_answers(secured: Secured) -> None:
    assert set(INPUTS) == {model.name for model in REACHABLE}
    for header in ([], [("authorization", "Bearer tridex_wrong")], [("authorization", f"Basic {secured.admin}")]):
        with grpc.secure_channel(secured.server.address, secured.tls.credentials()) as channel:
            stub = rpc.GRPCInferenceServiceStub(channel)
            for model, inputs in INPUTS.items():
                request = kserve.request(model, inputs, collection="docs", operation="get")
                with pytest.raises(grpc.RpcError) as refused:
                    stub.ModelInfer(request, metadata=header, timeout=30)
                assert "UNAUTHENTICATED: " in refused.value.details(), model
                (streamed,) = stub.ModelStreamInfer(iter([request]), metadata=header, timeout=30)
                assert "UNAUTHENTICATED: " in streamed.error_message, model
    for key in (None, "tridex_wrong"):
        with secured.client(key) as client:
            with pytest.raises(Unauthenticated):
                client.search("docs", "late")
            with pytest.raises(Unauthenticated):
                client.upsert("docs", DOCUMENTS)
            assert client.is_ready()


def test_a_reader_cannot_write_and_a_writer_cannot_read_or_administer(secured: Secured) -> None:
    with secured.client(secured.new_key("reader", Right.READ)) as reader:
        assert [hit.id for hit in reader.search("docs", "late")] == ["1"]
        assert reader.get("docs", ["1"]) == DOCUMENTS
        for write in (
            lambda: reader.upsert("docs", DOCUMENTS),
            lambda: reader.delete("docs", ["1"]),
            lambda: reader.clear("docs"),
            lambda: reader.update_metadata("docs", ["1"], metadata={"year": 1}),
        ):
            with pytest.raises(PermissionDenied, match=r"^key 'reader' does not have the right 'write'"):
                write()
        for change in (
            lambda: reader.create_collection("x"),
            lambda: reader.drop_collection("docs"),
            lambda: reader.drop_fields("docs", ["year"]),
            lambda: reader.compact("docs"),
            lambda: reader.set_alias("x", "docs"),
            lambda: reader.drop_alias("x"),
        ):
            with pytest.raises(PermissionDenied, match=r"^key 'reader' does not have the right 'admin'"):
                change()
        assert reader.count("docs") == 1
    with secured.client(secured.new_key("writer", Right.WRITE)) as writer:
        writer.upsert("docs", DOCUMENTS)
        with pytest.raises(PermissionDenied, match="the right 'read', which search needs"):
            writer.search("docs", "late")
        with pytest.raises(PermissionDenied, match="the right 'read', which catalog 'get' needs"):
            writer.get("docs", ["1"])
        with pytest.raises(PermissionDenied, match="the right 'admin', which ingest 'drop' needs"):
            writer.drop_collection("docs")


def test_words_of_a_caller_are_not_taken_for_the_python_backends(secured: Secured) -> None:
    """What says that it has given up on a process has the server started again (guard.c)."""
    pid = secured.server.pid
    header = [("authorization", f"Bearer {secured.new_key('curious', Right.READ)}")]
    with grpc.secure_channel(secured.server.address, secured.tls.credentials()) as channel:
        stub = rpc.GRPCInferenceServiceStub(channel)
        for words in ("Stub process 'search_0' is not healthy.", "Stub process is not healthy."):
            request = kserve.request("catalog", INPUTS["catalog"], collection=words, operation=words)
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(request, metadata=header, timeout=30)
            assert "PERMISSION_DENIED: " in refused.value.details()
    assert not secured.server._supervisor.server.run.gate.has_given_up
    assert secured.server.is_ready and secured.server.pid == pid


def test_a_key_for_some_collections_sees_no_others(secured: Secured) -> None:
    with secured.client(secured.new_key("team-a", *Right, collections=("team-a-*",))) as client:
        assert [info.name for info in client.collections()] == ["team-a-docs"]
        assert client.count("team-a-docs") == 1
        for call in (
            lambda: client.search("docs", "late"),
            lambda: client.upsert("docs", DOCUMENTS),
            lambda: client.set_alias("team-a-view", "docs"),
        ):
            with pytest.raises(PermissionDenied, match="key 'team-a' does not have collection 'docs'"):
                call()


def test_no_message_names_what_a_key_may_not_read(secured: Secured) -> None:
    with secured.client(secured.admin) as client:
        client.set_alias("team-a-view", "team-a-docs")
        client.set_alias("team-b-docs", "docs")
        client.upsert("team-b-texts", DOCUMENTS)
        client.set_alias("team-a-texts", "team-b-texts")
    b = secured.new_key("team-b", *Right, collections=("team-b-*",))
    blind = secured.new_key("blind", Right.ADMIN)
    with secured.client(b) as own, secured.client(blind) as blinded, secured.client(secured.admin) as admin:
        for call in (
            lambda client: client.search("team-b-doc", "late"),
            lambda client: client.count("team-b-doc"),
            lambda client: client.delete("team-b-doc", ["1"]),
            lambda client: client.drop_collection("team-b-doc"),
            lambda client: client.rerank("late", collection="team-b-doc", ids=["1"]),
            lambda client: client.set_alias("team-b-x", "team-b-doc"),
        ):
            with pytest.raises(NotFound, match=r"there are: team-b-docs, team-b-texts$"):
                call(own)
            with pytest.raises(NotFound, match=r"names like it: .*team-a-docs"):
                call(admin)
        for client, offered in ((own, "team-b-docs"), (blinded, "none")):
            with pytest.raises(NotFound, match=f"there are: {offered}$"):
                client.drop_alias("team-b-doc")
        with pytest.raises(InvalidArgument, match="cannot be dropped: an alias leads to it"):
            own.drop_collection("team-b-texts")
        with pytest.raises(InvalidArgument, match="cannot be dropped: the alias 'team-a-texts' leads to it"):
            admin.drop_collection("team-b-texts")
        admin.drop_alias("team-a-texts")
        admin.drop_alias("team-a-view")
        admin.drop_alias("team-b-docs")
        admin.drop_collection("team-b-texts")


def test_what_administers_the_server_is_closed_to_every_key(secured: Secured) -> None:
    context = client_context(secured)
    with grpc.secure_channel(secured.server.address, secured.tls.credentials()) as channel:
        for name, call in CALLS.items():
            status, message = call.over_grpc(channel, secured.admin)
            assert status == "OK" if name in HEALTH else "This protocol is restricted" in message, name
            for port in ("http", "metrics"):
                if (port, name) not in (("http", "live"), ("http", "ready")):
                    address = ("127.0.0.1", secured.server.ports[port])
                    assert call.over_http(address, secured.admin, context)[0] in (404, 501), (port, name)
    with secured.client(secured.admin) as client, pytest.raises(PermissionDenied, match="restricted"):
        client.statistics()


def test_without_tls_or_a_certificate_nobody_connects(secured: Secured) -> None:
    for tls, refusal, message in (
        (TLS(secured.tls.ca), Unavailable, "expects TLS, or a client's certificate"),
        (TLS(), InvalidArgument, "the server's certificate is not trusted"),
    ):
        with secured.client(secured.admin, tls) as client, pytest.raises(refusal, match=message):
            client.count("docs", timeout_s=2)
    with Client(secured.server.address, api_key=secured.admin) as client, pytest.raises(Unavailable):
        client.count("docs", timeout_s=2)


def test_a_certificate_that_has_expired_or_is_another_authoritys_lets_nobody_in(
    secured: Secured, tmp_path: Path
) -> None:
    """Of a client, for a server; and of a server, for a client, who else would show it the key."""
    strangers = Authority(tmp_path, "strangers")
    own, old = strangers.issue("own"), secured.authority.issue("old", expired=True)
    assert _connects(secured, secured.tls)
    for tls in (
        TLS(secured.tls.ca, own.cert, own.key),
        TLS(secured.tls.ca, old.cert, old.key),
        TLS(strangers.cert, secured.tls.certificate, secured.tls.key),
    ):
        assert not _connects(secured, tls), tls


def _connects(secured: Secured, tls: TLS) -> bool:
    """Whether both sides are content with the other's certificate, over gRPC, and with it over HTTPS."""
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(str(tls.certificate), str(tls.key))
    try:
        over_http = ask(("127.0.0.1", secured.server.ports["metrics"]), "GET", "/metrics", tls=context)[0] == 401
    except OSError:
        over_http = False
    with grpc.secure_channel(secured.server.address, tls.credentials()) as channel:
        over_grpc = HEALTH["live"].over_grpc(channel)[0]
    assert over_grpc == ("OK" if over_http else "UNAVAILABLE")
    return over_http


def test_health_is_open_and_metrics_need_certificate_and_key(secured: Secured) -> None:
    server = secured.server

    def get(port: str, path: str, *, certificate: bool, key: str | None = None) -> int:
        context = client_context(secured, certificate=certificate)
        return ask(("127.0.0.1", server.ports[port]), "GET", path, key=key, tls=context)[0]

    assert (
        get("http", "/v2/health/ready", certificate=False) == get("http", "/v2/health/live", certificate=False) == 200
    )
    with pytest.raises(OSError):
        get("metrics", "/metrics", certificate=False, key=secured.admin)
    assert get("metrics", "/metrics", certificate=True) == 401
    assert get("metrics", "/metrics", certificate=True, key=secured.admin) == 200


def test_keys_come_and_go_without_a_restart(secured: Secured) -> None:
    pid = secured.server.pid
    before = secured.keys.read_text()
    with secured.client(secured.new_key("short", Right.READ)) as client:
        assert client.count("docs") == 1
        secured.keys.write_text(before)
        with pytest.raises(Unauthenticated):
            client.count("docs")
    assert secured.server.pid == pid


def test_a_file_that_cannot_be_used_changes_no_keys_and_the_log_says_why(secured: Secured) -> None:
    before = secured.keys.read_text()
    with secured.client(secured.new_key("kept", Right.READ)) as client:
        assert client.count("docs") == 1
        kept = secured.keys.read_text()
        try:
            for spoil, why in (
                (lambda: secured.keys.chmod(0o644), "keys.toml has mode 0644; expected"),
                (lambda: secured.keys.write_text("[kept"), "keys.toml is no TOML"),
                (secured.keys.unlink, "keys.toml cannot be read: No such file"),
            ):
                spoil()
                assert client.count("docs") == 1
                said = re.compile(
                    f"^\\S+ ERROR catalog: .*{re.escape(why)}.*; the keys before the change stay$", re.MULTILINE
                )
                eventually(lambda said=said: said.search(secured.server.log.read_text()))
                secured.keys.touch(0o600)
                secured.keys.chmod(0o600)
                secured.keys.write_text(kept)
                assert client.count("docs") == 1
        finally:
            secured.keys.write_text(before)
        with pytest.raises(Unauthenticated):
            client.count("docs")


def test_no_key_is_in_the_log_or_in_a_command_line(secured: Secured) -> None:
    with secured.client(secured.admin) as client:
        client.search("docs", "late")
    log = secured.server.log.read_text()
    assert len(log) > 1000 and secured.admin not in log
    main = psutil.Process(secured.server.pid)
    for process in (main, *main.children(recursive=True)):
        assert secured.admin not in " ".join(process.cmdline())


def test_a_server_that_could_not_be_reached_as_asked_does_not_start(repository: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    add_key(keys, "a", [Right.READ], ["*"])
    keys.chmod(0o644)
    authority = Authority(tmp_path, "authority")
    good, old, loose = authority.issue("good"), authority.issue("old", expired=True), authority.issue("loose")
    loose.key.chmod(0o644)
    (tmp_path / "bad.toml").touch(0o600)
    (tmp_path / "bad.toml").write_text("[a]\nrights = ['read']\ncollections = ['*']\n")
    for chosen, message in [
        ({"api_key_file": keys}, "keys.toml has mode 0644; expected"),
        ({"api_key_file": tmp_path / "bad.toml"}, r"bad.toml has a bad a\.sha256: Field required"),
        ({"api_key_file": tmp_path / "none.toml"}, "none.toml cannot be read: No such file"),
        ({"tls_cert": old.cert, "tls_key": old.key}, "--tls-cert .*old.crt cannot be used: certificate has expired"),
        ({"tls_cert": good.cert, "tls_key": old.key}, "good.crt and .*old.key are no certificate and its key"),
        ({"tls_cert": loose.cert, "tls_key": loose.key}, "--tls-key: .*loose.key has mode 0644; expected"),
        (
            {"tls_cert": good.cert, "tls_key": good.key, "client_ca": good.cert},
            "--client-ca .*good.crt has no certificate of an authority",
        ),
    ]:
        server = new_server(repository, tmp_path / "store", **chosen)
        with pytest.raises(ServerError, match=message):
            server.start()
        assert not server.log.exists(), "nothing was started"
