"""TLS: what the certificate files say is checked before a server starts, and the launcher's own HTTP is encrypted."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

from tridex.serving.private_files import LooseFileError, check_private
from tridex.serving.settings import ServerSettings

from .errors import ServerError


def server_context(settings: ServerSettings, *, for_clients_of_ours: bool) -> ssl.SSLContext | None:
    """The launcher's side of TLS, None where the server has no certificate.

    `for_clients_of_ours`: clients need a certificate, where the settings have an authority of such. Raises ServerError
    where a file cannot be read, is not what it should be, or where the certificate is not the key's or not valid now.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        check_private(settings.tls_key)
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_password)
    except LooseFileError as error:
        raise ServerError(f"--tls-key: {error}") from error
    except ssl.SSLError as error:
        raise ServerError(
            f"--tls-cert {settings.tls_cert} and --tls-key {settings.tls_key} are no certificate and its key without "
            f"a password, as PEM ({error.reason or error})"
        ) from error
    except OSError as error:
        raise ServerError(f"{_unreadable(settings)} cannot be read: {error.strerror}") from error
    _check_valid_now(context, settings.tls_cert)
    if settings.client_ca is not None:
        authorities = _authorities(settings.client_ca)
        if for_clients_of_ours:
            context.load_verify_locations(cadata=authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    return context


def _unreadable(settings: ServerSettings) -> str:
    """Which of the two files it is: the library does not say."""
    assert settings.tls_cert is not None
    try:
        settings.tls_cert.read_bytes()
    except OSError:
        return f"--tls-cert {settings.tls_cert}"
    return f"--tls-key {settings.tls_key}"


def _no_password() -> str:
    """In place of a question on the terminal."""
    return ""


def _check_valid_now(server: ssl.SSLContext, certificate: Path) -> None:
    """A handshake with ourselves: raises ServerError where the certificate has expired, or is not valid yet."""
    client = ssl.create_default_context(cafile=str(certificate))
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server))
    try:
        for _ in range(3):
            for side in reversed(sides):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
    except ssl.SSLCertVerificationError as error:
        raise ServerError(f"--tls-cert {certificate} cannot be used: {error.verify_message}") from error


def _authorities(file: Path) -> str:
    """The certificates in the file. Raises ServerError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        text = file.read_text()
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        raise ServerError(f"--client-ca {file} has no certificates as PEM ({error.reason or error})") from error
    except OSError as error:
        raise ServerError(f"--client-ca {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ServerError(f"--client-ca {file} has no certificates as PEM ({error})") from error
    ends = [ssl.cert_time_to_seconds(str(found["notAfter"])) for found in context.get_ca_certs()]
    if not ends:
        raise ServerError(f"--client-ca {file} has no certificate of an authority")
    if max(ends) < time.time():
        raise ServerError(f"--client-ca {file} cannot be used: certificate has expired")
    return text
