"""The launcher's side of TLS: files that cannot be used, and who gets in."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from certificates import Authority, Pair
from servers import free_ports

from tridex.serving.server.endpoint import Endpoint, health
from tridex.serving.server.errors import ServerError
from tridex.serving.server.tls import server_context
from tridex.serving.settings import ServerSettings


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def settings(pair: Pair, client_ca: Path | None = None) -> ServerSettings:
    return ServerSettings(tls_cert=pair.cert, tls_key=pair.key, client_ca=client_ca)


def refusal(chosen: ServerSettings) -> str:
    with pytest.raises(ServerError) as refused:
        server_context(chosen, for_clients_of_ours=True)
    return str(refused.value)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert server_context(ServerSettings(), for_clients_of_ours=True) is None


def test_a_certificate_that_cannot_be_used_is_refused(authority: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("good"), authority.issue("other")
    assert server_context(settings(good), for_clients_of_ours=True) is not None
    assert "certificate has expired" in refusal(settings(authority.issue("old", expired=True)))
    assert "are no certificate and its key" in refusal(settings(Pair(good.cert, other.key)))
    assert "are no certificate and its key" in refusal(settings(Pair(good.key, good.key)))
    for none, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        assert refusal(settings(Pair(none, good.key))) == f"--tls-cert {none} cannot be read: {reason}"
        assert refusal(settings(Pair(good.cert, none))) == f"--tls-key {none} cannot be read: {reason}"
    other.key.chmod(0o644)
    assert "--tls-key: " in refusal(settings(other)) and "has mode 0644" in refusal(settings(other))


def test_an_authority_that_cannot_be_used_is_refused(authority: Authority, tmp_path: Path) -> None:
    good = authority.issue("good")
    assert "has no certificates as PEM" in refusal(settings(good, client_ca=good.key))
    assert "has no certificate of an authority" in refusal(settings(good, client_ca=good.cert))
    assert "cannot be read" in refusal(settings(good, client_ca=tmp_path / "none"))


@contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[int]:
    (port,) = free_ports(1)
    endpoint = Endpoint("127.0.0.1", port, health(lambda: True), context)
    yield port
    endpoint.close()


def ask(port: int, context: ssl.SSLContext) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    connection.request("GET", "/v2/health/ready")
    return connection.getresponse().status


def test_the_endpoint_is_encrypted_and_asks_clients_for_their_certificate(authority: Authority, tmp_path: Path) -> None:
    clients = Authority(tmp_path, "clients")
    chosen = settings(authority.issue("server"), client_ca=clients.cert)
    stranger = ssl.create_default_context(cafile=str(authority.cert))
    known = ssl.create_default_context(cafile=str(authority.cert))
    pair = clients.issue("client")
    known.load_cert_chain(pair.cert, pair.key)
    with serving(server_context(chosen, for_clients_of_ours=False)) as port:
        assert ask(port, stranger) == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, ssl.create_default_context())
        plain = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        plain.request("GET", "/v2/health/ready")
        with pytest.raises((http.client.HTTPException, OSError)):
            plain.getresponse()
        assert ask(port, stranger) == 200
    with serving(server_context(chosen, for_clients_of_ours=True)) as port:
        assert ask(port, known) == 200
        with pytest.raises(OSError):
            ask(port, stranger)
