"""Errors of the client as the hosts' types."""

from __future__ import annotations

import pickle

import pytest
from haystack.document_stores.errors import DocumentStoreError
from langchain_core.exceptions import LangChainException

from tridex.client import ClientError, InvalidArgument, Unavailable
from tridex.common import TridexError
from tridex.integrations.core.errors import host_errors, require
from tridex.integrations.langchain import TridexRetriever

TYPES: dict[type[TridexError], type[Exception]] = {InvalidArgument: ValueError, TridexError: LangChainException}


def raised(error: Exception, types: dict[type[TridexError], type[Exception]]) -> Exception:
    with pytest.raises(Exception) as caught, host_errors(types):
        raise error
    return caught.value


def test_an_error_is_the_hosts_and_the_clients() -> None:
    cause = InvalidArgument("top_k: expected an integer, got 'a'")
    error = raised(cause, TYPES)
    assert isinstance(error, ValueError)
    assert isinstance(error, InvalidArgument)
    assert str(error) == str(cause)
    assert error.__cause__ is cause


def test_the_first_type_that_matches_counts() -> None:
    error = raised(Unavailable("no server"), TYPES)
    assert isinstance(error, LangChainException)
    assert isinstance(error, Unavailable)
    assert not isinstance(error, ValueError)


def test_what_has_no_type_of_the_host_stays_as_it_is() -> None:
    for cause in (Unavailable("no server"), KeyError("not ours")):
        assert raised(cause, {InvalidArgument: ValueError}) is cause


def test_an_error_of_an_inner_call_stays_as_it_is() -> None:
    error = raised(InvalidArgument("top_k"), TYPES)
    assert raised(error, TYPES) is error


def test_what_the_client_says_beside_its_message_is_kept() -> None:
    cause = Unavailable("no server")
    cause.written = 32
    error = raised(cause, TYPES)
    assert isinstance(error, ClientError)
    assert error.written == 32
    assert str(error) == str(cause)


def test_errors_cross_processes() -> None:
    cause = Unavailable("no server")
    cause.written = 32
    error = pickle.loads(pickle.dumps(raised(cause, {TridexError: DocumentStoreError})))
    assert isinstance(error, DocumentStoreError)
    assert isinstance(error, Unavailable)
    assert error.written == 32


def test_a_server_that_is_not_there_is_an_error_of_the_host() -> None:
    retriever = TridexRetriever(collection="docs", connection="localhost:1", search_options={"timeout_s": 0.3})
    with pytest.raises(LangChainException):
        retriever.invoke("query")


def test_a_malformed_address_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="address: expected HOST:PORT"):
        TridexRetriever(collection="docs", connection="two words")


def test_a_missing_framework_names_its_extra() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no_such_module.*pip install 'tridex\[langchain\]'"):
        require("no_such_module", extra="langchain")
