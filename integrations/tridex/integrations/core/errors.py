"""Errors of the client as the types that a framework's users catch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any

from tridex.common import TridexError


@contextmanager
def host_errors(types: Mapping[type[TridexError], type[Exception]]) -> Iterator[None]:
    """Lets the client's errors pass as errors of the framework, too: `except` finds them by either class.

    Args:
        types: The framework's class for each of the client's, the first match counts. What has none, or is of that
            class already, stays as it is.
    """
    try:
        yield
    except TridexError as error:
        host = next((host for kind, host in types.items() if isinstance(error, kind)), None)
        if host is None or isinstance(error, host):
            raise
        raise _both(type(error), host, error.args, vars(error)) from error


def require(module: str, extra: str) -> None:
    """Raises ModuleNotFoundError, which names the extra, where a framework is not installed."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install 'tridex[{extra}]'", name=error.name) from error


def _both(
    client: type[Exception], host: type[Exception], arguments: tuple[Any, ...], state: dict[str, Any]
) -> Exception:
    error = _class_of_both(client, host)(*arguments)  # type: ignore[arg-type]  # classes can be hashed
    vars(error).update(state)
    return error


@cache  # classes are made once, so that errors of one kind are of one class
def _class_of_both(client: type[Exception], host: type[Exception]) -> type[Exception]:
    def __reduce__(error: Exception) -> tuple[Any, ...]:  # noqa: N807 - errors cross processes, a made class does not
        return _both, (client, host, error.args, vars(error))

    members = {"__doc__": client.__doc__, "__module__": client.__module__, "__reduce__": __reduce__}
    return type(client.__name__, (client, host), members)
