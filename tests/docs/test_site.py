"""The site is whole, and needs no other host."""

from __future__ import annotations

import re
from pathlib import Path

_LOADED = re.compile(r'<(?:script|img|iframe)[^>]* src="(https?:[^"]+)"|<link[^>]* href="(https?:[^"]+)"')
_IMPORTED = re.compile(r"""url\(["']?(https?:[^)"']+)""")


def test_nothing_is_loaded_from_other_hosts(site: Path) -> None:
    pages = {path: path.read_text() for path in site.rglob("*.html")}
    styles = {path: path.read_text() for path in site.rglob("*.css")}
    assert len(pages) > 40
    found = [match for text in pages.values() for match in _LOADED.findall(text)]
    found += [match for text in styles.values() for match in _IMPORTED.findall(text)]
    assert found == []


def test_every_mark_became_a_table(site: Path) -> None:
    for page, text in {
        "command-line": "tridex search",
        "served-models": "QUERY_EMBEDDINGS",
        "packages": "train_codebook",
        "client": "search_batch",
        "errors": "Overloaded",
    }.items():
        html = (site / "reference" / page / "index.html").read_text()
        assert text in html
        assert "generated:" not in html
