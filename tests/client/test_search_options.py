"""One list of search options: what the client checks and sends, and what the command line offers."""

from __future__ import annotations

from typing import get_args

import pytest
from typer.testing import CliRunner

from tridex.client import Client, CodecName, InvalidArgument, LongDocumentsName
from tridex.client.cli import create_app
from tridex.client.search_options import SEARCH_OPTIONS, search_parameters
from tridex.kernels import Codec
from tridex.protocol import parameters


def test_what_is_sent_where_everything_is_left_out():
    assert search_parameters({}) == {"top_k": 10, "with_text": True, "with_metadata": True}
    defaults = {name: option.default for name, option in SEARCH_OPTIONS.items()}
    assert search_parameters(defaults) == search_parameters({})  # type: ignore[arg-type]


def test_every_option_is_a_request_parameter():
    names = {value for name, value in vars(parameters).items() if name.isupper() and isinstance(value, str)}
    assert SEARCH_OPTIONS.keys() <= names


def test_an_option_that_does_not_exist_is_refused_as_python_does():
    with pytest.raises(TypeError, match=r"search\(\) got an unexpected keyword argument 'topk'"):
        search_parameters({"topk": 3})  # type: ignore[typeddict-unknown-key]
    with Client("127.0.0.1:1") as client, pytest.raises(TypeError, match="unexpected keyword argument 'topk'"):
        client.search("docs", "q", topk=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["top_k", "mode", "exact", "with_text", "with_metadata"])
def test_none_stands_for_left_out_only_where_there_is_no_default(name):
    with pytest.raises(InvalidArgument, match=f"{name}: expected"):
        search_parameters({name: None})  # type: ignore[misc]


def test_the_command_line_has_an_option_for_each_with_help():
    words = CliRunner().invoke(create_app(), ["search", "--help"], env={"COLUMNS": "200"}).output.split()
    for name, option in SEARCH_OPTIONS.items():
        assert (f"--{name.replace('_', '-')}" in words) == bool(option.help) or name in ("filters", "explain")
    assert "--no-exact" in words and "-k" in words


def test_the_names_that_type_checkers_know_are_all_there_are():
    assert set(get_args(LongDocumentsName)) == {value.value for value in parameters.LongDocuments}
    assert set(get_args(CodecName)) == {codec.value for codec in Codec}
