"""The training data of the default checkpoint: pairs of a query and a text, from sources whose licences allow it.

    python -m examples.training_pairs SCIFACT DEBIAN OUTPUT

SCIFACT is SciFact in BEIR's layout (claims CC BY 4.0, abstracts ODC-By 1.0), DEBIAN a folder with `pairs.jsonl.gz`
(descriptions of Debian's packages, under the packages' own free licences). The third source is on every machine that
has Tridex: the functions of Python's standard library (PSF licence) and of some of its dependencies (BSD, MIT and
Apache licences), whose first docstring sentence is the query and whose code without that sentence is the text.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import random
import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console

LIBRARIES = ("numpy", "scipy", "sympy", "matplotlib", "pandas")
HELD_OUT_LIBRARY = "networkx"
"""Its functions serve to choose between trainings; no dataset that results are reported on has them."""
_SKIPPED_FOLDERS = {"test", "tests", "testing", "site-packages", "idlelib", "lib2to3"}
_MIN_SENTENCE_WORDS, _MAX_SENTENCE_WORDS = 4, 30
_MAX_CHARACTERS = 400
"""Of a text, about a hundred tokens: longer texts take more time and do not improve in-batch training."""
_ROWS = {
    "claims": 1000,
    "titles": 800,
    "sentences": 1500,
    "functions": 2500,
    "packages": 800,
    "held_out_functions": 1000,
}
"""Most rows of each source."""

Pair = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scifact", type=Path)
    parser.add_argument("debian", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    installed = Path(sysconfig.get_path("purelib"))
    folders = [Path(sysconfig.get_path("stdlib")), *(installed / name for name in LIBRARIES)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, pairs in {
        "claims": claims(arguments.scifact),
        "titles": titles(arguments.scifact),
        "sentences": sentences(arguments.scifact, rng),
        "functions": (pair for folder in folders for pair in functions(folder)),
        "packages": packages(arguments.debian),
        "held_out_functions": functions(installed / HELD_OUT_LIBRARY),
    }.items():
        rows = sorted(dict(pairs).items())
        rng.shuffle(rows)
        path = arguments.output / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for query, text in rows[: _ROWS[name]]:
                pair = {"query": query, "positive": text[:_MAX_CHARACTERS]}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")
        Console().print(f"{min(len(rows), _ROWS[name]):,} of {len(rows):,} pairs in {path}")


def claims(scifact: Path) -> Iterator[Pair]:
    """Claims and their relevant abstracts, of the training split."""
    for row in _rows(scifact / "triplets.train.jsonl.gz"):
        yield row["query"], row["positive"]


def titles(scifact: Path) -> Iterator[Pair]:
    """Titles and their abstracts."""
    for row in _rows(scifact / "corpus.jsonl.gz"):
        yield row["title"], row["text"]


def sentences(scifact: Path, rng: random.Random) -> Iterator[Pair]:
    """A sentence and the rest of its abstract: the inverse cloze task (Lee, Chang and Toutanova 2019, section 4)."""
    for row in _rows(scifact / "corpus.jsonl.gz"):
        parts = re.split(r"(?<=[.!?])\s+", row["text"])
        fit = [i for i, part in enumerate(parts) if 6 <= len(part.split()) <= _MAX_SENTENCE_WORDS]
        if len(parts) > 3 and fit:
            chosen = rng.choice(fit)
            rest = " ".join(parts[:chosen] + parts[chosen + 1 :])
            yield parts[chosen], f"{row['title']} {rest}"


def packages(debian: Path) -> Iterator[Pair]:
    """Synopses and descriptions."""
    for row in _rows(debian / "pairs.jsonl.gz"):
        yield row["query"], row["positive"]


def functions(folder: Path) -> Iterator[Pair]:
    """The first sentence of each public function's docstring, and its code without it."""
    for path in sorted(folder.rglob("*.py")):
        if _SKIPPED_FOLDERS & set(path.relative_to(folder).parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield from _function(node)


def _function(node: ast.FunctionDef) -> Iterable[Pair]:
    docstring = ast.get_docstring(node) or ""
    match = re.match(r"(.+?[.!?])(?=\s|$)|(.+?)(?=\n\s*\n|$)", docstring.strip(), re.DOTALL)
    if not match:
        return
    sentence = " ".join(match[0].split())
    if _MIN_SENTENCE_WORDS <= len(sentence.split()) <= _MAX_SENTENCE_WORDS:
        node.body[0] = ast.Expr(ast.Constant(docstring.strip()[match.end() :].strip()))
        yield sentence, ast.unparse(node)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()
