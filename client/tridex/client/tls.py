"""An encrypted channel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from .errors import InvalidArgument


@dataclass(frozen=True)
class TLS:
    """How a client checks the server's certificate, and shows its own: PEM files.

    Args:
        ca: The authorities of the server's certificate; those that gRPC comes with where left out.
        certificate: The client's certificate, where the server asks for one (mutual TLS).
        key: The certificate's private key.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC. Raises InvalidArgument."""
        if (self.certificate is None) != (self.key is None):
            raise InvalidArgument("tls: expected certificate and key, or neither; got one of them")
        ca, certificate, key = (
            _read(name, file) for name, file in (("ca", self.ca), ("certificate", self.certificate), ("key", self.key))
        )
        return grpc.ssl_channel_credentials(ca, key, certificate)


def _read(name: str, file: Path | str | None) -> bytes | None:
    if file is None:
        return None
    try:
        content = Path(file).read_bytes()
    except (OSError, TypeError) as error:
        raise InvalidArgument(f"tls.{name}: expected a PEM file, got {str(file)!r} ({error})") from error
    if b"-----BEGIN " not in content:
        raise InvalidArgument(f"tls.{name}: expected a PEM file, got {str(file)!r}, which is none")
    return content
