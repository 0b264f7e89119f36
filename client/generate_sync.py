"""Generates the synchronous client from the asynchronous one: `make generate`.

With --check it changes nothing, and fails where the two have drifted apart.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

PACKAGE = Path(__file__).parent / "tridex" / "client"
MODULE = "client.py"
NAMES = {"AsyncClient": "Client", "AsyncTransport": "Transport", "asyncio": "time"}
# unasync leaves the inside of strings alone, examples in docstrings among them.
IN_DOCSTRINGS = {"async with ": "with ", "await ": "", "AsyncClient": "Client"}
HEADER = '"""The synchronous client of a Tridex server. Generated from `_async` by `make generate`: do not edit."""\n'


def generate(folder: Path) -> Path:
    """Writes the synchronous module into `folder`; its path."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "_async" / MODULE
        source.parent.mkdir()
        source.write_text((PACKAGE / "_async" / MODULE).read_text("utf-8"), "utf-8")
        unasync.unasync_files([str(source)], [unasync.Rule("/_async/", "/_sync/", NAMES)])
        text = (Path(temporary) / "_sync" / MODULE).read_text("utf-8")
    text = HEADER + text.split("\n", 1)[1]
    target = folder / MODULE
    target.write_text(re.sub(r'"""[^"].*?"""', _in_docstring, text, flags=re.DOTALL), "utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    config = ["--quiet", "--config", str(PACKAGE.parents[2] / "pyproject.toml")]
    subprocess.run([*ruff, "check", *config, "--select", "I", "--fix", str(target)], check=True)
    subprocess.run([*ruff, "format", *config, str(target)], check=True)
    return target


def _in_docstring(found: re.Match[str]) -> str:
    text = found[0]
    for name, replacement in IN_DOCSTRINGS.items():
        text = text.replace(name, replacement)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail where the generated client is out of date")
    if not parser.parse_args().check:
        generate(PACKAGE / "_sync")
        return
    with tempfile.TemporaryDirectory() as temporary:
        if generate(Path(temporary)).read_text("utf-8") != (PACKAGE / "_sync" / MODULE).read_text("utf-8"):
            sys.exit("client/tridex/client/_sync is out of date: run `make generate`")


if __name__ == "__main__":
    main()
