"""The table of modes, and which of them a request's parameters lead to."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from pkgutil import iter_modules

from tridex.protocol import models, parameters
from tridex.serving.backend import fields
from tridex.serving.backend.service import Request, RequestError, invalid

from .mode import Mode


def _modes_of_this_folder() -> Iterator[type[Mode]]:
    for _, name, _ in iter_modules([str(Path(__file__).parent)]):
        module = import_module(f".{name}", __package__)
        for value in vars(module).values():
            is_mode = isinstance(value, type) and issubclass(value, Mode) and not isabstract(value)
            if is_mode and value.__module__ == module.__name__:
                yield value


MODES: tuple[type[Mode], ...] = tuple(_modes_of_this_folder())
"""Every mode. A new one is a file in this folder and its name in protocol's SearchModeName."""

_BY_REQUEST = {(mode.name, mode.exact, mode.candidates_given): mode for mode in MODES}
_PARAMETERS = list(dict.fromkeys(parameter for mode in MODES for parameter in mode.parameters))


def parse_mode(request: Request, top_k: int) -> Mode:
    """The request's mode. Raises RequestError INVALID_ARGUMENT for a bad value, and for a parameter without effect."""
    name = fields.one_of(request, parameters.MODE, parameters.SEARCH_MODES, parameters.DEFAULT_MODE)
    exact = fields.flag(request, parameters.EXACT)
    mode = _BY_REQUEST.get((name, exact, False))
    if mode is None:
        raise _without_effect(request, parameters.EXACT, name, exact)
    for parameter in _PARAMETERS:
        if parameter in request.parameters and parameter not in mode.parameters:
            raise _without_effect(request, parameter, name, exact)
    if request.get(models.CANDIDATE_IDS) is not None:
        mode = _BY_REQUEST.get((name, exact, True))
        if mode is None:
            raise invalid(
                f"input {models.CANDIDATE_IDS.name} is given beside mode {name} with exact {str(exact).lower()}; "
                "expected mode maxsim and exact true, as given candidates are scored by MaxSim, every one"
            )
    return mode.parse(request, top_k)


def _without_effect(request: Request, parameter: str, mode: str, exact: bool) -> RequestError:
    return invalid(
        f"parameter {parameter} is {fields.shortened(request.parameters[parameter])} in a search of mode {mode} with "
        f"exact {str(exact).lower()}, where it has no effect; expected none"
    )
