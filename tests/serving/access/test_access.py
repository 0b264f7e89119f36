"""API keys: their file, what each allows, and how a change of the file is followed."""

from __future__ import annotations

import itertools
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tridex.client.cli.app import create_app
from tridex.protocol import models
from tridex.protocol.parameters import CatalogOperation, IngestOperation
from tridex.serving.access.access import Access
from tridex.serving.access.callers import EVERYBODY, OPERATIONS, AccessError, Caller
from tridex.serving.access.key_file import Key, KeyFileError, Right, add_key, digest, read_keys
from tridex.serving.forwarded_headers import take_header


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def caller(*rights: Right, collections: tuple[str, ...] = ("*",)) -> Caller:
    return Caller("k", Key(sha256="0" * 64, rights=rights, collections=collections))


def refusal(access: Access, header: Any) -> str:
    with pytest.raises(AccessError) as refused:
        access.caller(header)
    return f"{refused.value.tag.value}: {refused.value}"


def test_the_file_keeps_hashes_and_not_the_key(file: Path) -> None:
    key = add_key(file, "front-end", [Right.READ], ["docs", "team-a-*"])
    other = add_key(file, "crawler", [Right.WRITE, Right.ADMIN], ["*"])
    assert key != other and len(key) > 40
    assert key not in file.read_text() and digest(key) in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_keys(file)["front-end"] == Key(
        sha256=digest(key), rights=(Right.READ,), collections=("docs", "team-a-*")
    )
    access = Access(file)
    assert access.caller(f"Bearer {key}").name == "front-end"
    assert access.caller(f"bearer  {other} ").name == "crawler"


@pytest.mark.parametrize("header", [None, 7, "", "Basic abc", "tridex_abc"])
def test_without_a_key_nobody_is_known(file: Path, header: object) -> None:
    add_key(file, "a", [Right.READ], ["*"])
    assert refusal(Access(file), header) == (
        "UNAUTHENTICATED: expected an API key: the header authorization: Bearer KEY"
    )


def test_a_wrong_key_is_refused_and_not_repeated(file: Path) -> None:
    key = add_key(file, "a", [Right.READ], ["*"])
    for wrong in ("", "x", key[:-1], key + "x", digest(key)):
        assert refusal(Access(file), f"Bearer {wrong}") == "UNAUTHENTICATED: the API key is not known"


def test_without_a_file_everybody_may_do_everything() -> None:
    access = Access(None)
    assert access.caller(None) is access.caller("Bearer x") is EVERYBODY
    for model, operation in itertools.product(("search", "ingest", "catalog"), ("upsert", "drop", "get", "?")):
        EVERYBODY.check(model, {"operation": operation, "collection": "c"})


def test_every_operation_has_its_right() -> None:
    assert set(OPERATIONS[models.INGEST.name]) == set(IngestOperation)
    assert set(OPERATIONS[models.CATALOG.name]) == set(CatalogOperation)


@pytest.mark.parametrize("right", Right)
def test_a_right_allows_its_own_operations_and_no_others(right: Right) -> None:
    allowed = set()
    for model, needed in OPERATIONS.items():
        for operation in needed:
            try:
                caller(right).check(model, {"operation": operation.value, "collection": "c"})
                allowed.add(operation)
            except AccessError as error:
                assert error.tag.value == "PERMISSION_DENIED"
                assert str(error).startswith("key 'k' does not have the right ")
    assert allowed == {
        operation for needed in OPERATIONS.values() for operation in needed if needed[operation] is right
    }
    if right is not Right.READ:
        with pytest.raises(AccessError, match="the right 'read', which search needs"):
            caller(right).check("search", {"collection": "c"})


def test_an_unknown_operation_needs_the_most() -> None:
    with pytest.raises(AccessError, match="the right 'admin', which ingest 'destroy' needs"):
        caller(Right.READ, Right.WRITE).check("ingest", {"operation": "destroy"})
    with pytest.raises(AccessError, match="the right 'admin'"):
        caller(Right.READ).check("catalog", {"operation": ["get"]})


def test_collections_are_named_or_begin_so() -> None:
    reader = caller(Right.READ, collections=("docs", "team-a-*"))
    for name in ("docs", "team-a-", "team-a-x"):
        reader.check("search", {"collection": name})
        assert reader.may_read(name)
    for name in ("doc", "docs2", "team-a", "team-b-x", "*", "", "Docs"):
        with pytest.raises(AccessError, match="key 'k' does not have collection"):
            reader.check("search", {"collection": name})
        assert not reader.may_read(name)
    assert not caller(Right.WRITE).may_read("docs")


def test_an_alias_opens_no_collection_of_others() -> None:
    admin = caller(Right.ADMIN, collections=("team-a-*",))
    admin.check("ingest", {"operation": "set_alias", "alias": "team-a-now", "collection": "team-a-1"})
    for alias, collection in (("team-a-now", "team-b-1"), ("team-b-now", "team-a-1")):
        with pytest.raises(AccessError, match="team-b"):
            admin.check("ingest", {"operation": "set_alias", "alias": alias, "collection": collection})


def test_the_header_is_taken_out_of_the_parameters() -> None:
    parameters = {"top_k": 3, "Authorization": "Bearer a"}
    assert take_header(parameters, "authorization") == "Bearer a" and parameters == {"top_k": 3}
    assert take_header(parameters, "authorization") is None


def test_keys_come_and_go_while_it_runs(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = add_key(file, "first", [Right.READ], ["*"])
    access = Access(file)
    second = add_key(file, "second", [Right.READ], ["*"])
    assert {access.caller(f"Bearer {key}").name for key in (first, second)} == {"first", "second"}
    without_first = file.read_text().partition("[second]")
    new = file.with_suffix(".new")
    new.touch(0o600)
    new.write_text("".join(without_first[1:]))
    new.replace(file)
    assert refusal(access, f"Bearer {first}") == "UNAUTHENTICATED: the API key is not known"
    assert access.caller(f"Bearer {second}").name == "second"
    for spoil in (lambda: file.write_text("[second"), lambda: file.chmod(0o644), file.unlink):
        with caplog.at_level(logging.ERROR):
            caplog.clear()
            spoil()
            assert access.caller(f"Bearer {second}").name == access.caller(f"Bearer {second}").name == "second"
        assert len(caplog.messages) == 1 and caplog.messages[0].endswith("; the keys before the change stay")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[a]\nsha256 = 'abc'\nrights = ['read']\ncollections = ['*']", r"has a bad a\.sha256: String should match"),
        ("[a]\nrights = ['read']\ncollections = ['*']", r"has a bad a\.sha256: Field required"),
        ("[a]\nsha256 = 'H'\nrights = ['reed']\ncollections = ['*']", r"has a bad a\.rights\.0: Input should be"),
        ("[a]\nsha256 = 'H'\nrights = []\ncollections = ['*']", r"has a bad a\.rights: Tuple should have at least"),
        ("[a]\nsha256 = 'H'\nrights = ['read']", r"has a bad a\.collections: Field required"),
        ("[a]\nsha256 = 'H'\nrights = ['read']\ncollections = ['a/b']", r"a\.collections: 'a/b' is no collection"),
        ("[a]\nsha256 = 'H'\nrights = ['read']\ncollections = ['*a']", r"a\.collections: '\*a' is no collection"),
        ("[a]\nsha256 = 'H'\nrights = ['read']\ncollections = ['*']\nkey = 'x'", r"has a bad a\.key: Extra inputs"),
        ("a = 1", r"has a bad a: Input should be"),
        ("[a", "is no TOML"),
    ],
)
def test_a_bad_file_is_refused_by_what_is_bad(file: Path, content: str, message: str) -> None:
    file.touch(0o600)
    file.write_text(content.replace("'H'", f"'{'0' * 64}'"))
    with pytest.raises(KeyFileError, match=message):
        Access(file)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o602, 0o610])
def test_a_file_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    add_key(file, "a", [Right.READ], ["*"])
    file.chmod(mode)
    with pytest.raises(KeyFileError, match=f"has mode {mode:04o}; expected 06[04]0 or less: chmod 6[04]0 "):
        Access(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    add_key(file, "a", [Right.READ], ["*"])
    os.chown(file, 12345, -1)
    with pytest.raises(KeyFileError, match="belongs to user 12345; expected it to be root's or the server's own"):
        Access(file)


def test_a_folder_is_no_file_of_keys(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)  # whose mode must not be changed for this
    with pytest.raises(KeyFileError, match="cannot be read: Is a directory"):
        Access(tmp_path)


def test_a_file_without_a_final_newline_is_added_to(file: Path) -> None:
    first = add_key(file, "first", [Right.READ], ["*"])
    file.write_text(file.read_text().rstrip())
    second = add_key(file, "second", [Right.READ], ["*"])
    assert {Access(file).caller(f"Bearer {key}").name for key in (first, second)} == {"first", "second"}


def test_of_keys_that_are_added_at_once_one_has_the_name(file: Path) -> None:
    def add(_: int) -> bool:
        try:
            add_key(file, "a", [Right.READ], ["*"])
        except KeyFileError as error:
            assert "has a key 'a' already" in str(error)
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1
    assert list(read_keys(file)) == ["a"]


def test_a_file_without_keys_lets_nobody_in_and_starts_no_server(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = add_key(file, "a", [Right.READ], ["*"])
    access = Access.of_a_start(file)
    file.write_text("# none\n")
    assert refusal(access, f"Bearer {key}") == "UNAUTHENTICATED: the API key is not known"
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "0 API keys were read")]
    with pytest.raises(KeyFileError, match="has no keys: `tridex api-key` makes one"):
        Access.of_a_start(file)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read: No such file"):
        Access(file)


def test_the_command_prints_a_key_that_the_file_knows(file: Path) -> None:
    def run(*arguments: str) -> Any:
        return CliRunner().invoke(create_app(), ["api-key", *arguments, "--file", str(file)])

    made = run("front-end", "--right", "read", "--right", "write", "--collection", "docs")
    assert made.exit_code == 0, made.output
    found = Access(file).caller(f"Bearer {made.stdout.strip()}")
    assert (found.name, found.key.rights) == ("front-end", (Right.READ, Right.WRITE))
    for arguments, message in [
        (("front-end", "--right", "read", "--collection", "a"), "has a key 'front-end' already"),
        (("b c", "--right", "read", "--collection", "a"), "the key's name is 'b c'"),
        (("b", "--right", "read", "--collection", "a/b"), "'a/b' is no collection"),
    ]:
        refused = run(*arguments)
        assert refused.exit_code == 1 and message in refused.stderr
    assert run("b", "--right", "reed", "--collection", "a").exit_code == 2
