"""`tridex try` on a file, in headless Chromium: what a person does on the page, at two widths."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

TRIDEX = Path(sys.executable).parent / "tridex"
BROWSER = shutil.which("chromium-headless-shell") or shutil.which("chromium")
PATIENCE_MS = 60_000
HARM = "<script>document.title = 'harmed'</script>"
ROWS = [
    ("shutil.rmtree", "removing", 2004, f"Delete an entire directory tree and everything in it. {HARM}"),
    ("os.remove", "removing", 2001, "Remove the file at this path; a folder is refused with an error."),
    ("json.loads", "parsing", 2008, "Turn a document in JSON, given as text, into objects of Python."),
    ("argparse", "parsing", 2011, "Parse the options and arguments of a command line program."),
    ("round", "numbers", 1994, "A number rounded to so many digits behind the decimal point."),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a running `tridex try`, which has exported its encoder."""
    folder = tmp_path_factory.mktemp("try")
    with (folder / "functions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("function", "kind", "year", "about"), *ROWS])
    command = [str(TRIDEX), "try", "functions.csv"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        printed = []
        for line in process.stderr:
            printed.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            pytest.fail("".join(printed))
        try:
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0
    assert "ids from function, texts from about" in "".join(printed)


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    """The page, whose errors fail the tests."""
    assert BROWSER, "expected chromium-headless-shell or chromium; on Debian: apt-get install chromium-headless-shell"
    errors: list[str] = []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        yield page
        browser.close()
    assert errors == []


def ask(page: Page, query: str) -> None:
    page.get_by_role("searchbox", name="Your question").fill(query)
    with page.expect_response("**/api/timing"):
        page.keyboard.press("Enter")


def test_a_question_is_answered_three_times(page: Page) -> None:
    expect(page.locator("#hits-bi-encoder progress")).to_have_count(0)
    ask(page, "delete a directory and everything in it")
    for system in ("ColBERT", "Bi-encoder", "BM25"):
        expect(page.get_by_role("region", name=system).locator(".hit").first).to_be_visible()
    colbert = page.get_by_role("region", name="ColBERT")
    expect(colbert.locator(".hit h3").first).to_contain_text("shutil.rmtree")
    expect(colbert.locator("mark", has_text="directory")).to_be_visible()
    expect(page.get_by_role("region", name="Where the time goes")).to_contain_text("encode")
    assert page.title() == "functions.csv · Tridex playground", "a document's script has run"
    expect(colbert.locator(".hit .text").first).to_contain_text(HARM)


def test_filters_narrow_and_can_be_too_narrow(page: Page) -> None:
    page.get_by_role("checkbox", name="parsing").check()
    hits = page.get_by_role("region", name="ColBERT").locator(".hit h3")
    expect(hits).to_have_count(2)
    page.get_by_label("year: from").fill("2012")
    expect(page.get_by_role("status").first).to_contain_text("No document that passes the filters was found.")
    page.get_by_role("button", name="Clear the filters").click()
    expect(hits).to_have_count(len(ROWS))


def test_a_query_of_special_tokens_alone_is_answered(page: Page) -> None:
    ask(page, "[MASK]")
    expect(page.locator("#trouble")).to_be_hidden()
    expect(page.get_by_role("region", name="BM25").locator(".empty")).to_be_visible()


def test_codecs_are_measured(page: Page) -> None:
    page.get_by_role("button", name="Measure").click()
    rows = page.get_by_role("region", name="What each codec costs").locator("tbody tr")
    expect(rows).to_have_count(7)
    expect(rows.first).to_contain_text("100.0 %")


def test_programs_run_as_they_are_shown(page: Page) -> None:
    page.get_by_label("year: from").fill("2005")
    page.get_by_role("checkbox", name="parsing").check()
    with page.expect_response("**/api/timing"):
        ask(page, "arguments of a program")
    for name in ("Python", "LangChain", "LlamaIndex", "Haystack"):
        page.get_by_role("tab", name=name).click()
        code = page.locator("#program pre").inner_text()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE_MS / 1000
        )
        assert done.returncode == 0, done.stderr
        assert "argparse: Parse the options" in done.stdout and "rmtree" not in done.stdout


def test_tabs_are_moved_through_by_keys(page: Page) -> None:
    page.get_by_role("tab", name="Haystack").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    assert page.get_by_role("tab", selected=True).inner_text() == "Python"


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits(page: Page, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    expect(page.get_by_role("button", name="Search")).to_be_in_viewport()
