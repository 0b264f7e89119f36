"""No module imports itself through others: each can be understood from the ones below it."""

from __future__ import annotations

from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]


def find_cycle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one import cycle, in its order, the first one again at its end; empty where there is none."""
    remaining = set(imports)
    while leaves := {module for module in remaining if not imports[module] & remaining}:
        remaining -= leaves
    if not remaining:
        return []
    # Every module left imports another one that is left, so a walk along them comes back to where it was.
    walk = [min(remaining)]
    while walk.count(walk[-1]) == 1:
        walk.append(min(imports[walk[-1]] & remaining))
    return walk[walk.index(walk[-1]) :]


def test_a_cycle_is_found() -> None:
    assert find_cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert find_cycle({"top": {"a"}, "a": {"b", "leaf"}, "b": {"c"}, "c": {"a"}, "leaf": set()}) == ["a", "b", "c", "a"]


def test_no_modules_import_each_other() -> None:
    """Counts imports inside functions and below TYPE_CHECKING too."""
    ours = [f"tridex.{init.parent.name}" for init in ROOT.glob("*/tridex/*/__init__.py")]
    graph = grimp.build_graph(*ours, "benchmarks", "examples", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imports) > len(ours) > 9
    assert find_cycle(imports) == []
