"""What a client is made with, on which event loops it works, and that it says so when it is closed."""

from __future__ import annotations

import asyncio
import gc
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from certificates import Authority

from tridex.client import TLS, AsyncClient, Client, InvalidArgument, Timeout, TridexError, Unavailable
from tridex.client.channel import headers_of, target

COUNT = {"ROWS": [['{"count": 3}']]}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:9", "localhost:9"),
        ("localhost", "localhost:8001"),
        ("http://Host-1.example:9", "Host-1.example:9"),
        ("HTTP://localhost/", "localhost:8001"),
        ("grpc://10.0.0.1:9/", "10.0.0.1:9"),
        ("::1", "[::1]:8001"),
        ("[fe80::1%eth0]:9", "[fe80::1%eth0]:9"),
        ("dns:///host:9", "dns:///host:9"),
        ("unix:/run/tridex", "unix:/run/tridex"),
    ],
)
def test_addresses(address, expected):
    assert target(address) == (expected, False)


def test_an_address_with_https_asks_for_tls():
    assert target("https://host") == target("GRPCS://host:8001") == ("host:8001", True)


def test_an_api_key_is_a_header():
    assert headers_of({"A": "b"}, "tridex_key") == {"a": "b", "authorization": "Bearer tridex_key"}


@pytest.mark.parametrize("key", ["", "two words", "schl\u00fcssel", "a\nb", 7])
def test_a_bad_api_key_is_refused_and_not_repeated(key):
    with pytest.raises(InvalidArgument) as caught:
        Client(api_key=key)
    assert str(caught.value) == f"api_key: expected printable ASCII without spaces, got {type(key).__name__}"


def test_a_key_and_a_header_of_that_name_are_refused():
    with pytest.raises(InvalidArgument, match="expected it, or a header 'authorization'; got both"):
        Client(api_key="key", headers={"Authorization": "Bearer other"})


def test_tls_that_cannot_be_used_is_named(tmp_path):
    no_pem = tmp_path / "ca.pem"
    no_pem.write_text("a certificate")
    for tls, message in [
        (TLS(ca=tmp_path / "none.pem"), r"tls\.ca: expected a PEM file, got .*none\.pem.*No such file"),
        (TLS(ca=no_pem), r"tls\.ca: expected a PEM file, got '.*ca\.pem', which is none"),
        (TLS(certificate=no_pem), "tls: expected certificate and key, or neither"),
        ("ca.pem", r"tls: expected a TLS\(\), True or False, got 'ca\.pem'"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            Client(tls=tls)
    with pytest.raises(InvalidArgument, match="tls: expected it, or credentials; got both"):
        Client(tls=True, credentials=grpc.ssl_channel_credentials())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(
            ({"address": address}, f"address: expected HOST:PORT, like localhost:8001, got {shown}")
            for address, shown in [
                ("", "''"),
                ("two words", "'two words'"),
                ("host:0", "'host:0'"),
                ("host:65536", "'host:65536'"),
                ("host:", "'host:'"),
                ("host:grpc", "'host:grpc'"),
                ("ftp://host:1", "'ftp://host:1'"),
                ("http://host:8001/v2/models", "'http://host:8001/v2/models'"),
                ("user@host:1", "'user@host:1'"),
                ("\udc80:1", r"'\\udc80:1'"),
                (None, "None"),
                (8001, "8001"),
            ]
        ),
        *(
            (
                {"timeout_s": seconds},
                f"timeout_s: expected a number of seconds above 0, got {re.escape(repr(seconds))}$",
            )
            for seconds in (None, 0, -1, float("nan"), "fast", 1j)
        ),
        ({"timeout_s": 10**5000}, "timeout_s: expected a number of seconds above 0, got a huge int"),
        ({"headers": [("a", "b")]}, "headers: expected a mapping of names to values, got "),
        ({"headers": {"a b": "c"}}, r"headers: expected names of ASCII letters, .* got 'a b'"),
        ({"headers": {"": "c"}}, "headers: expected names of .* got ''"),
        ({"headers": {7: "c"}}, "headers: expected names of .* got 7"),
        ({"headers": {"grpc-timeout": "1S"}}, "that do not begin with grpc-, got 'grpc-timeout'"),
        ({"headers": {"Key": "secret\n"}}, "headers: expected printable ASCII, a str, as the value of 'Key', got str$"),
        ({"headers": {"key": 7}}, "as the value of 'key', got int"),
        ({"headers": {"key-bin": "text"}}, "headers: expected bytes as the value of 'key-bin', got str"),
        ({"credentials": "secret"}, r"credentials: expected grpc\.ChannelCredentials"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_a_client_cannot_be_made_with(kind, arguments, message):
    with pytest.raises(InvalidArgument, match=message) as caught:
        kind(**arguments)
    assert "secret\n" not in str(caught.value)


@pytest.mark.parametrize("seconds", [float("inf"), 1e10, 1e300, 10**30, np.float32(5), np.array(5.0)])
async def test_a_huge_timeout_is_a_long_one(make_client, triton, seconds):
    triton.answer = lambda _: COUNT
    client = make_client(triton.address, timeout_s=seconds)
    assert await client.count("docs") == await client.count("docs", timeout_s=seconds) == 3
    assert all(request.timeout_us <= 86_400_000_000 for request in triton.requests)
    await client.close()


async def test_a_tiny_timeout_does_not_become_none_at_all(client, triton):
    triton.answer = lambda _: COUNT
    with suppress(Timeout):
        await client.count("docs", timeout_s=1e-9)
    assert all(request.timeout_us > 0 for request in triton.requests)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), "1", [1]])
async def test_a_bad_timeout_of_a_call_reads_nothing(client, triton, seconds):
    with pytest.raises(InvalidArgument, match="timeout_s: expected a number of seconds above 0"):
        await client.upsert("docs", iter([pytest.fail]), timeout_s=seconds)
    assert triton.requests == []


async def test_header_names_are_sent_in_lower_case(make_client, triton):
    triton.answer = lambda _: COUNT
    client = make_client(triton.address, headers={"Authorization": "Bearer x", "Trace-Bin": b"\xff"})
    assert await client.count("docs") == 3
    assert triton.requests[0].headers["authorization"] == "Bearer x"
    assert triton.requests[0].headers["trace-bin"] == b"\xff"
    await client.close()


async def test_a_scheme_before_the_address(make_client, triton):
    triton.answer = lambda _: COUNT
    client = make_client(f"http://{triton.address}/")
    assert await client.count("docs") == 3
    await client.close()


@pytest.mark.parametrize("address", ["no-such-host.invalid", "127.0.0.1:1"])
async def test_an_address_without_a_server(make_client, address):
    client = make_client(address, timeout_s=1)
    with pytest.raises(Unavailable, match=r"after \d attempts"):
        await client.count("docs")
    assert await client.is_ready() is False
    await client.close()


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    folder = tmp_path_factory.mktemp("authorities")
    return Authority(folder, "ours"), Authority(folder, "theirs")


@pytest.mark.parametrize(
    ("server", "client", "kind", "message"),
    [
        ("tls", "theirs", InvalidArgument, r"^tls: the server's certificate is not trusted: .*tls\.ca"),
        ("none", "ours", InvalidArgument, "^tls: nothing at this address answers with TLS"),
        ("tls", "none", Unavailable, "as by a server that expects TLS, or a client's certificate"),
        ("mutual", "ours", Unavailable, "as by a server that expects TLS, or a client's certificate"),
    ],
)
async def test_tls_that_does_not_fit_the_server_is_said(make_client, authorities, server, client, kind, message):
    ours, theirs = authorities
    pair = ours.issue("server")
    listening = grpc.server(ThreadPoolExecutor(1))
    if server == "none":
        port = listening.add_insecure_port("127.0.0.1:0")
    else:
        clients = ours.cert.read_bytes() if server == "mutual" else None
        own = [(pair.key.read_bytes(), pair.cert.read_bytes())]
        port = listening.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials(own, clients, server == "mutual"))
    listening.start()
    tls = {"none": False, "ours": TLS(ca=ours.cert), "theirs": TLS(ca=theirs.cert)}[client]
    refused = make_client(f"127.0.0.1:{port}", timeout_s=10, tls=tls)
    with pytest.raises(kind, match=message) as error:
        await refused.count("docs")
    assert ("after 5 attempts" in str(error.value)) == (kind is Unavailable)
    await refused.close()
    listening.stop(None)


async def test_a_closed_client_says_so(make_client, triton):
    client = make_client(triton.address)
    await client.close()
    await client.close()
    for call in (client.count("docs"), client.is_ready(), client.upsert("docs", iter([pytest.fail]))):
        with pytest.raises(InvalidArgument, match="client: expected one that is open, got one that was closed"):
            await call
    assert triton.requests == []


def test_closing_a_client_ends_the_calls_of_other_threads(triton):
    triton.answer = triton.silent
    client = Client(triton.address)
    closer = threading.Timer(0.2, client.close)
    closer.start()
    with pytest.raises(InvalidArgument, match="got one that was closed"):
        client.count("docs")
    closer.join()


async def test_closing_an_async_client_ends_the_calls_of_other_tasks(triton):
    triton.answer = triton.silent
    client = AsyncClient(triton.address)
    call = asyncio.create_task(client.count("docs"))
    await asyncio.sleep(0.2)
    await client.close()
    with pytest.raises(InvalidArgument, match="got one that was closed"):
        await call


async def test_a_cancelled_call_is_cancelled(triton):
    triton.answer = triton.silent
    async with AsyncClient(triton.address) as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.count("docs"), 0.2)
        triton.answer = lambda _: COUNT
        assert await client.count("docs") == 3


async def test_a_request_that_grpc_does_not_take_is_an_error_of_the_client(client, triton, monkeypatch):
    monkeypatch.setattr("tridex.client.transport._Endpoint._arguments", lambda *_: {"no such": "argument"})
    with pytest.raises(TridexError, match="the request could not be sent: TypeError") as caught:
        await client.count("docs")
    assert isinstance(caught.value.__cause__, TypeError) and triton.requests == []


LOOPS = """
import asyncio, gc, sys
from tridex.client import AsyncClient
client = AsyncClient(sys.argv[1])
found = [asyncio.run(client.count("docs")) for _ in range(3)]
assert len(client._transport._by_loop) == 1, "channels of loops that are closed are let go"
async def last():
    async with client:
        return await client.count("docs")
print(found, asyncio.run(last()))
del client
gc.collect()
"""


def test_an_async_client_works_on_one_event_loop_after_another(triton):
    triton.answer = lambda _: COUNT
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", LOOPS, triton.address],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[3, 3, 3] 3\n", "")


@pytest.mark.parametrize("closed", [True, False])
def test_a_program_may_end_with_a_client_that_outlives_grpc(closed):
    keep = "import grpc; from tridex.client import Client; grpc.kept = Client('localhost:1')"
    keep += "; grpc.kept.close()" if closed else ""
    done = subprocess.run([sys.executable, "-c", keep], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_event_loops_at_the_same_time(triton):
    triton.answer = lambda _: time.sleep(0.1) or COUNT
    client = AsyncClient(triton.address)
    elsewhere = asyncio.to_thread(lambda: asyncio.run(client.count("docs")))
    assert await asyncio.gather(client.count("docs"), elsewhere) == [3, 3]
    await client.close()
    gc.collect()


async def test_credentials_encrypt(make_client):
    client = make_client("https://127.0.0.1:1", credentials=grpc.ssl_channel_credentials(), timeout_s=0.2)
    with pytest.raises(Unavailable):
        await client.count("docs")
    await client.close()
