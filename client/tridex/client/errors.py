"""What can go wrong.

    ClientError, a TridexError
    ├── InvalidArgument     the request is wrong; sending it again will not help
    ├── NotFound            no such collection, document or model
    ├── AlreadyExists       what should be created exists already
    ├── Overloaded          the server has no room for this request now
    ├── ResourceExhausted   the server's memory or disk has no room for it, until an operator makes some
    ├── ReadOnly            this server does not write to its store
    ├── Unauthenticated     the server asks for an API key, and got none that it knows
    ├── PermissionDenied    the API key does not allow the request
    ├── Timeout             no answer in time; the request may have been carried out
    ├── Unavailable         the server cannot be reached, or is not ready
    └── ServerError         everything else: the server failed

An error of the server is sorted by its gRPC status code, or by the tag in front of its message where Triton server has
no code for it (tridex.protocol.error_tags). Words decide in three cases alone, where gRPC and Triton server use the
code of something else: a message or header that is too large, a restricted protocol, and TLS that cannot be agreed on.
Each error keeps tritonclient's exception as its cause; one that the client raises before it sends anything has none.
"""

from __future__ import annotations

import re
from typing import ClassVar

from tritonclient.utils import InferenceServerException

from tridex.common import TridexError
from tridex.protocol.error_tags import ErrorTag, untagged, without_ensemble
from tridex.protocol.limits import MAX_MESSAGE_BYTES


class ClientError(TridexError):
    """Base of every error that the client raises."""

    code: ClassVar[str] = "INTERNAL"
    """What the class stands for, in words of gRPC's status codes where there is one."""
    written: int | None = None
    """Of an upsert that failed midway: how many of its documents are certainly in the store. None for other calls."""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} (the first {self.written:,} documents are written)" if self.written else message


class InvalidArgument(ClientError):  # noqa: N818 - named as the gRPC status is
    """The request is wrong; the message names the argument, its value and what was expected."""

    code = "INVALID_ARGUMENT"


class NotFound(ClientError):  # noqa: N818
    """There is no such collection, document or model."""

    code = "NOT_FOUND"


class AlreadyExists(ClientError):  # noqa: N818
    """What the request would create exists already."""

    code = "ALREADY_EXISTS"


class Overloaded(ClientError):  # noqa: N818
    """The server has no room for this request now; try again later or send less.

    It is not sent again: what would be answered too late now is told so at once, so that the caller can decide.
    """

    code = "OVERLOADED"

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which the server expects to have room, None where it does not know."""
        found = _RETRY_AFTER.search(super().__str__())
        return float(found[1]) if found else None


class ResourceExhausted(ClientError):  # noqa: N818
    """The memory budget or the disk of the server has no room; the message has the figures. It is not sent again."""

    code = "RESOURCE_EXHAUSTED"


class ReadOnly(ClientError):  # noqa: N818
    """This server does not write to its store; the message says why, and who does. It is not sent again."""

    code = "READ_ONLY"


class Unauthenticated(ClientError):  # noqa: N818
    """The server asks for an API key, and got none that it knows. It is not sent again."""

    code = "UNAUTHENTICATED"


class PermissionDenied(ClientError):  # noqa: N818
    """The API key does not allow the request, or nobody's does. It is not sent again."""

    code = "PERMISSION_DENIED"


class Timeout(ClientError):  # noqa: N818
    """No answer within the time allowed. The server may still carry the request out."""

    code = "DEADLINE_EXCEEDED"


class Unavailable(ClientError):  # noqa: N818
    """The server cannot be reached or is not ready, and retries did not help."""

    code = "UNAVAILABLE"


class ServerError(ClientError):
    """The server failed in a way that has no class of its own."""


_BY_STATUS: dict[str | None, type[ClientError]] = {
    "StatusCode.INVALID_ARGUMENT": InvalidArgument,
    "StatusCode.NOT_FOUND": NotFound,
    "StatusCode.ALREADY_EXISTS": AlreadyExists,
    "StatusCode.RESOURCE_EXHAUSTED": Overloaded,
    "StatusCode.DEADLINE_EXCEEDED": Timeout,
    "StatusCode.UNAVAILABLE": Unavailable,
    # Of a proxy in front of the server.
    "StatusCode.UNAUTHENTICATED": Unauthenticated,
    "StatusCode.PERMISSION_DENIED": PermissionDenied,
}


_BY_TAG: dict[ErrorTag, type[ClientError]] = {
    ErrorTag.RESOURCE_EXHAUSTED: ResourceExhausted,
    ErrorTag.OVERLOADED: Overloaded,
    ErrorTag.READ_ONLY: ReadOnly,
    ErrorTag.DEADLINE_EXCEEDED: Timeout,
    ErrorTag.UNAUTHENTICATED: Unauthenticated,
    ErrorTag.PERMISSION_DENIED: PermissionDenied,
}


_RETRY_AFTER = re.compile(r"; retry after ([0-9]+(?:\.[0-9]+)?) s$")
_TOO_LARGE = re.compile("message larger than max|metadata size exceeds")
_HANDSHAKE = re.compile(r"handshake failed.*SSL routines:\w*:(\w+)")
_CLOSED = re.compile("failed to connect to all addresses.*: Socket closed$")
_TLS_REASONS = {
    "CERTIFICATE_VERIFY_FAILED": "the server's certificate is not trusted: expected one for this host, of an authority "
    "in tls.ca",
    "WRONG_VERSION_NUMBER": "nothing at this address answers with TLS: expected the port of a server that has a "
    "certificate; without TLS keys and texts are sent as they are",
}
_RESTRICTED = "This protocol is restricted"


def from_triton(error: InferenceServerException, timeout_s: float) -> ClientError:
    """The error of this package that stands for one of tritonclient's, of a call that was allowed `timeout_s`."""
    kind, message = _BY_STATUS.get(error.status(), ServerError), without_ensemble(str(error.message()))
    if error.status() == "StatusCode.INTERNAL" and (refusal := untagged(message)):
        kind, message = _BY_TAG[refusal[0]], refusal[1]
    if kind is Timeout:
        return Timeout(f"{message} (timeout_s={timeout_s:g})")
    if kind is Overloaded and _TOO_LARGE.search(message):
        return InvalidArgument(
            f"one message holds at most {MAX_MESSAGE_BYTES} bytes ({message}): expected a smaller top_k or limit, "
            "fewer queries or documents, or with_text=False"
        )
    if kind is Unavailable and message.startswith(_RESTRICTED):
        return PermissionDenied(message)
    if kind is Unavailable and (handshake := _HANDSHAKE.search(message)):
        return InvalidArgument(f"tls: {_TLS_REASONS.get(handshake[1], 'no connection can be agreed on')} ({message})")
    if kind is Unavailable and _CLOSED.search(message):
        return Unavailable(f"{message}, as by a server that expects TLS, or a client's certificate")
    return kind(message)
