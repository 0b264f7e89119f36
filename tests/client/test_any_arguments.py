"""Whatever a method is given, and whatever a server answers: a result, or a TridexError."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tridex.client import AsyncClient, Client, Document, TridexError
from tridex.client.search_options import SEARCH_OPTIONS

METHODS = sorted(name for name, _ in inspect.getmembers(Client, inspect.isfunction) if name[0] != "_")
METHODS.remove("close")
MANY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Odd:
    """What another library's array may do."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad")


ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 70),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**400]),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["\ud800", "\x00", "docs", "maxsim"]),
    st.just("x").map(lambda x: 300_000 * x),
    st.binary(max_size=3),
    st.sampled_from(
        [Odd(), object, Decimal("NaN"), 1j, np.int64(3), np.True_, np.float32("nan"), datetime.now(timezone.utc)]
    ),
    st.sampled_from([np.ones(3), np.ones((2, 4)), np.ones((0, 4)), np.array([[1j]]), np.array(["a", "b"])]),
)
KEYS = st.text(max_size=2) | st.none() | st.integers() | st.floats() | st.tuples(st.integers())
DOCUMENTS = st.builds(Document, ATOMS, ATOMS, ATOMS) | st.fixed_dictionaries(
    {"id": st.just("a") | ATOMS, "text": st.just("t") | ATOMS},
    optional={"metadata": st.dictionaries(KEYS, ATOMS, max_size=2)},
)
VALUES = st.recursive(
    ATOMS | DOCUMENTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=2) | st.sets(KEYS, max_size=2),
    max_leaves=5,
)
EXPECTED: dict[str, list[Any]] = {
    "alias": ["live"],
    "collection": ["docs"],
    "field": ["n"],
    "fields": [{"n": "int"}, ["n"], None],
    "metadata": [{"n": 1}],
    "documents": [[], [Document("a", "t")], ["one"], [{"id": "a", "text": "t", "metadata": {"n": 1}}]],
    "ids": [["a"], None],
    "queries": [["one", "two"], [np.ones((2, 3))]],
    "query": ["one", np.ones((2, 3))],
    "texts": ["one", ["one"]],
}


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A method, and arguments of which some are what it expects."""
    name = draw(st.sampled_from(METHODS))
    arguments = {}
    for parameter in list(inspect.signature(getattr(Client, name)).parameters.values())[1:]:
        several = SEARCH_OPTIONS if parameter.kind is parameter.VAR_KEYWORD else [parameter.name]
        for one in several:
            if (parameter.default is parameter.empty and one not in SEARCH_OPTIONS) or draw(st.integers(0, 3)) == 0:
                arguments[one] = draw(st.sampled_from(EXPECTED.get(one, [None])) | VALUES)
    return name, arguments


@pytest.fixture(params=[Client, AsyncClient])
def call(request: pytest.FixtureRequest, triton) -> Iterator[Callable[..., Any]]:
    """Calls a method of either client, by name."""
    loop = asyncio.new_event_loop()
    client = request.param(triton.address, timeout_s=10)

    def run(name: str, **arguments: Any) -> Any:
        result = getattr(client, name)(**arguments)
        return loop.run_until_complete(result) if inspect.isawaitable(result) else result

    yield run
    run("close")
    loop.close()


ROWS = {
    "count": [{"count": 1}],
    "get": [None],
    "facet": [{"value": 1, "count": 2}],
    "min_max": [[1, 2]],
    "collection": [{"name": "docs"}],
    "encoder": [{}],
}


def answer(request):
    """What a server answers."""
    rows = len(next(iter(request.inputs.values())))
    strings, numbers = np.empty((rows, 0), object), np.empty((rows, 0), np.float32)
    catalog = [json.dumps(row) for row in ROWS.get(request.parameters.get("operation"), [])]
    return {
        "ROWS": [catalog] if catalog else np.empty((1, 0), object),
        "VERSION": np.ones((rows, 1), np.int64),
        **dict.fromkeys(("IDS", "TEXTS", "METADATA"), strings),
        "SCORES": numbers if request.model != "rerank" else np.ones(request.inputs["DOCUMENTS"].shape, np.float32),
        "EMBEDDINGS": np.ones((rows, 2, 3), np.float32),
        "EMBEDDING_MASK": np.ones((rows, 2), np.int64),
    }


def test_any_arguments(call, triton):
    triton.answer = answer
    answered = set()

    @MANY
    @given(calls())
    def check(given: tuple[str, dict[str, Any]]) -> None:
        name, arguments = given
        try:
            call(name, **arguments)
            answered.add(name)
        except TridexError as error:
            assert "could not be sent" not in str(error), "what is wrong has a name"

    check()
    assert len(answered) > 4, "some of the arguments are good ones"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_any_arguments_of_a_new_client(kind):
    @MANY
    @given(st.dictionaries(st.sampled_from(["address", "timeout_s", "headers", "credentials"]), VALUES))
    def check(arguments: dict[str, Any]) -> None:
        with suppress(TridexError):
            kind(**arguments)

    check()


STRINGS = st.sampled_from(
    [b"", b"a", b"\xff", b"null", b"{}", b"[1]", b"7", b'{"id": 1}', b"[" * 5000, b'{"count": "x"}']
)
TENSORS = st.lists(st.integers(0, 3), max_size=3).flatmap(
    lambda shape: st.sampled_from(["object", "float32", "int64"]).flatmap(
        lambda kind: (
            st.lists(STRINGS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(
                lambda values: np.array([*values, None], object)[:-1].reshape(shape)
            )
            if kind == "object"
            else st.just(np.ones(shape, kind))
        )
    )
)
OUTPUTS = ["ROWS", "VERSION", "IDS", "TEXTS", "METADATA", "SCORES", "EMBEDDINGS", "EMBEDDING_MASK"]
OUTPUTS += ["ADDED", "REPLACED", "DELETED"]
GOOD: dict[str, dict[str, Any]] = {
    "search": {"collection": "docs", "query": "one"},
    "search_batch": {"collection": "docs", "queries": ["one", "two"]},
    "rerank": {"query": "one", "documents": ["a", "b"]},
    "encode_query": {"texts": ["one", "two"]},
    "encode_document": {"texts": "one"},
    "upsert": {"collection": "docs", "documents": [Document("a", "t")]},
    "update_metadata": {"collection": "docs", "ids": ["a"], "metadata": {}},
    "clear": {"collection": "docs"},
    "add_fields": {"collection": "docs", "fields": {"n": "int"}},
    "get": {"collection": "docs", "ids": ["a", "b"], "with_embeddings": True},
    "facet": {"collection": "docs", "field": "n"},
    "min_max": {"collection": "docs", "field": "n"},
    "count": {"collection": "docs"},
    "scroll": {"collection": "docs"},
    "collections": {},
    "describe_collection": {"collection": "docs"},
    "aliases": {},
    "server_info": {},
    "encoder": {},
}


def test_any_answers(call, triton):
    @MANY
    @given(st.sampled_from(sorted(GOOD)), st.fixed_dictionaries(dict.fromkeys(OUTPUTS, TENSORS)))
    def check(name: str, tensors: dict[str, Any]) -> None:
        triton.answer = lambda request: {output: tensors[output] for output in request.outputs}
        with suppress(TridexError):
            call(name, **GOOD[name])

    check()
