"""The page of a comparison in a real browser: it asks for nothing, fits a phone, and is readable by machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from retino_cli.evaluation.compare import compare

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.figures]


@pytest.fixture
def page_file(trained_place: Path, pages: dict[str, Path]) -> Path:
    """The page that compares the trainings "first" and "second"."""
    if "comparison" not in pages:
        pages["comparison"] = trained_place / "compared.html"
        compare(["first", "second"], html=pages["comparison"], n_resamples=200)
    return pages["comparison"]


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": {"width": 1440, "height": 900}},
        {"viewport": {"width": 390, "height": 844}},
        {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
        {"viewport": {"width": 390, "height": 844}, "java_script_enabled": False},
    ],
)
def test_it_opens_from_disk_and_fits(browser: Browser, page_file: Path, options: dict[str, Any]) -> None:
    context = browser.new_context(**options)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(page_file.resolve().as_uri())
    assert asked == [page_file.resolve().as_uri()]
    assert said == []
    assert page.locator("h1").inner_text() == "first and second"
    assert page.locator("section").count() == 6
    assert page.locator("img.thumbnail").count() > 0
    if options.get("java_script_enabled", True):
        assert page.evaluate("document.documentElement.scrollWidth") <= options["viewport"]["width"]
        broken = "[...document.images].filter((one) => one.complete && one.naturalWidth === 0).length"
        assert page.evaluate(broken) == 0
    context.close()


def test_keys_reach_the_parts_and_open_what_is_folded(browser: Browser, page_file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(page_file.resolve().as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#verdict"
    for number in range(page.locator("summary").count()):
        summary = page.locator("summary").nth(number)
        summary.focus()
        page.keyboard.press("Enter")
        assert summary.evaluate("(node) => node.parentElement.open")
    context.close()


def test_axe_finds_no_serious_issue(browser: Browser, page_file: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        page.goto(page_file.resolve().as_uri())
        found = axe.Axe().run(page).response["violations"]
        serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert serious == []
        context.close()
