"""Commands that the documentation tells to run exist, with the options that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tridex.client.cli.app import create_app

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PAGES.remove(ROOT / "CHANGELOG.md")  # It names what earlier versions had.


def commands(text: str, program: str) -> Iterator[str]:
    """Calls of a program in code blocks for the shell and in inline code."""
    blocks = re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *re.findall(r"`([^`\n]+)`", text)]:
        if call := re.match(rf"(?:[A-Z_]+=\S+ )*(?:\S*/)?({program} .*)", line):
            yield call[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_of_make_are_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [call.split()[1] for call in commands(page.read_text(), "make")]
    assert [target for target in named if re.fullmatch("[a-z-]+", target) and target not in targets] == []


@pytest.fixture(scope="module")
def app() -> Any:
    """The command line."""
    return typer.main.get_command(create_app())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_are_on_the_command_line(app: Any, page: Path) -> None:
    unknown = []
    for call in commands(page.read_text(), "tridex"):
        words = shlex.split(call, comments=True)[1:]
        command: Any = app
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        options = [option.partition("=")[0] for word in words for option in re.findall(r"^\[?(--[a-z0-9-]+=?)", word)]
        if command is app or not known.union({"--help"}).issuperset(options):
            unknown.append(call)
    assert unknown == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
