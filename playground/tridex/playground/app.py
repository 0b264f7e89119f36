"""The playground over HTTP: the page, and what it asks for, as JSON.

    GET  /                     the page, with its styles and scripts in /page/
    GET  /api/about            the collection, what it can be filtered by, questions to begin with
    GET  /api/bi-encoder       how far the bi-encoder is
    POST /api/search           {"query", "conditions"}: what each system finds, and the search as programs
    POST /api/timing           the same: where its time goes
    GET  /api/codecs           how far the measurement of codecs is; POST begins it
    GET  /explain?query=&id=   one document's explanation as a page of its own

It is for the person at this machine. A page of another site cannot ask it anything: the Host must be this machine's,
and a POST must be JSON, which a browser lets another site send only if it is told to. An error is {"error": "..."}.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tridex.client import AsyncClient, InvalidArgument, NotFound, explanations_html
from tridex.common import TridexError

from .codec_costs import CodecCosts
from .filter_controls import filter_controls
from .local_ranking import LocalRanking
from .searching import SERVED, ask
from .snippets import Condition, filters_of, snippets
from .timing import SETTLING_S, ReadStages, timed

_PAGE = Path(str(files(__package__))) / "page"
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
_EXPLANATION_POLICY = "default-src 'none'; style-src 'unsafe-inline'; "
_ALWAYS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_REMEMBERED = 32
"""Questions that codecs are measured with."""


@dataclass
class Playground:
    """What the page shows."""

    client: AsyncClient
    address: str
    """The server's, for programs."""
    collection: str
    source: str
    """The file's name."""
    columns: str
    """Which of its columns are ids and texts, in words."""
    local: LocalRanking
    costs: CodecCosts
    read_stages: ReadStages
    examples: Sequence[str] = ()
    """Questions to begin with."""
    asked: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    """The last questions, each once."""
    timing: asyncio.Lock = field(default_factory=asyncio.Lock)


def create_app(playground: Playground) -> Starlette:
    """The application; closing the client is left to who made it."""
    app = Starlette(
        routes=[
            Route("/", _page),
            Mount("/page", StaticFiles(directory=_PAGE)),
            Route("/api/about", _about),
            Route("/api/bi-encoder", _bi_encoder),
            Route("/api/search", _search, methods=["POST"]),
            Route("/api/timing", _timing, methods=["POST"]),
            Route("/api/codecs", _codecs),
            Route("/api/codecs", _measure_codecs, methods=["POST"]),
            Route("/explain", _explain),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
        exception_handlers={TridexError: _failed, OSError: _failed},
    )
    app.state.playground = playground
    return app


async def _page(_: Request) -> Response:
    return FileResponse(_PAGE / "index.html", headers=_headers(_POLICY))


async def _about(request: Request) -> Response:
    playground = _of(request)
    info = await playground.client.describe_collection(playground.collection)
    controls = await filter_controls(playground.client, playground.collection)
    return JSONResponse(
        {
            "collection": info.name,
            "source": playground.source,
            "columns": playground.columns,
            "address": playground.address,
            "count": info.count,
            "tokens": info.tokens,
            "dim": info.dim,
            "fields": dict(info.fields),
            "controls": [asdict(control) for control in controls],
            "examples": list(playground.examples),
            "bi_encoder": asdict(playground.local.status),
        }
    )


async def _bi_encoder(request: Request) -> Response:
    return JSONResponse(asdict(_of(request).local.status))


async def _search(request: Request) -> Response:
    playground = _of(request)
    query, conditions = await _question(request)
    rankings = await ask(playground.client, playground.collection, playground.local, query, filters_of(conditions))
    if query in playground.asked:
        playground.asked.remove(query)
    playground.asked.append(query)
    programs = snippets(playground.address, playground.collection, query, conditions)
    return JSONResponse(
        {
            "rankings": [asdict(ranking) for ranking in rankings],
            "snippets": [asdict(program) for program in programs],
            "bi_encoder": asdict(playground.local.status),
        }
    )


async def _timing(request: Request) -> Response:
    playground = _of(request)
    query, conditions = await _question(request)
    filters = filters_of(conditions)
    spent = {}
    async with playground.timing:  # one after another, as the server adds up all searches
        await asyncio.sleep(SETTLING_S)
        for system, mode in SERVED.items():
            search = partial(playground.client.search, playground.collection, query, filters=filters, mode=mode)
            spent[system] = await timed(search, playground.read_stages)
    return JSONResponse(spent)


async def _codecs(request: Request) -> Response:
    return JSONResponse(asdict(_of(request).costs.report))


async def _measure_codecs(request: Request) -> Response:
    playground = _of(request)
    await _json(request)
    playground.costs.start(list(dict.fromkeys([*playground.asked, *playground.examples])))
    return JSONResponse(asdict(playground.costs.report))


async def _explain(request: Request) -> Response:
    playground = _of(request)
    query, key = request.query_params.get("query", ""), request.query_params.get("id", "")
    (hit,) = await playground.client.explain(playground.collection, query, [key])
    if hit is None:
        raise NotFound(f"collection {playground.collection!r} has no document {key!r} that can be explained")
    return HTMLResponse(explanations_html(query, [hit]), headers=_headers(_EXPLANATION_POLICY))


async def _question(request: Request) -> tuple[str, list[Condition]]:
    """Query and conditions of a search. Raises InvalidArgument; the client checks the values."""
    given = await _json(request)
    query, conditions = given.get("query"), given.get("conditions", [])
    if not isinstance(query, str):
        raise InvalidArgument(f"query: expected text, got {query!r}")
    keys = {"field", "operator", "value"}
    if not (isinstance(conditions, list) and all(isinstance(one, dict) and one.keys() == keys for one in conditions)):
        raise InvalidArgument("conditions: expected a list of objects with field, operator and value")
    return query, conditions


async def _json(request: Request) -> dict[str, Any]:
    """The object that was sent. Raises InvalidArgument."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    try:
        given = await request.json() if kind == "application/json" else None
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise InvalidArgument("expected a JSON object, sent as application/json")
    return given


async def _failed(_: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, InvalidArgument) else 404 if isinstance(error, NotFound) else 503
    return JSONResponse({"error": str(error)}, status)


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy + _ALWAYS,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }


def _of(request: Request) -> Playground:
    playground: Playground = request.app.state.playground
    return playground
