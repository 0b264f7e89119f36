"""The paths in docs/architecture.md: their modules exist, none comes twice, and each calls only what is below it."""

from __future__ import annotations

import re
from pathlib import Path

import grimp
import pytest

PAGE = (Path(__file__).parent.parent.parent / "docs" / "architecture.md").read_text()
PACKAGES = ("building", "client", "common", "encoding", "index", "kernels", "protocol", "serving")
PATHS = ("query", "document")

Step = tuple[int, tuple[str, ...]]
"""Depth in the tree, and the module, or one of several; none for what is not Python."""


def steps(path: str) -> list[Step]:
    section = PAGE.split(f"## The path of a {path}\n")[1].split("\n## ")[0]
    lines = [line for block in re.findall(r"```text\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]
    found = []
    for line in lines:
        tree, text = re.fullmatch(r"([│├└ ]*)(.*)", line).groups()  # type: ignore[union-attr]
        named = re.match(r"[a-z_.]+(?: \| [a-z_.]+)*(?= {2}|$)", text)
        found.append((len(tree), tuple(f"tridex.{name}" for name in named[0].split(" | ")) if named else ()))
    return found


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*(f"tridex.{package}" for package in PACKAGES))


@pytest.mark.parametrize("path", PATHS)
def test_every_module_exists_and_is_entered_once(path: str, graph: grimp.ImportGraph) -> None:
    modules = [module for _, named in steps(path) for module in named]
    assert len(modules) > 10
    assert [module for module in modules if module not in graph.modules] == []
    assert len(modules) == len(set(modules))


@pytest.mark.parametrize("path", PATHS)
def test_the_path_only_goes_down(path: str, graph: grimp.ImportGraph) -> None:
    above: list[Step] = []
    upwards = []
    for depth, named in steps(path):
        while above and above[-1][0] >= depth:
            above.pop()
        for module in named:
            callers = [caller for _, several in above for caller in several]
            upwards += [(module, caller) for caller in callers if graph.chain_exists(module, caller)]
        above.append((depth, named))
    assert upwards == []
