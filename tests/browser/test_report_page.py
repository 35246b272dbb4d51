"""A report in a real browser: what clicking, typing and looking at it gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from retino_cli.config import TrainConfig
from retino_cli.evaluation.evaluate import evaluate
from retino_cli.evaluation.evaluation import Evaluation
from retino_cli.report.report import make_report
from retino_cli.tracking import open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

pytestmark = [pytest.mark.browser, pytest.mark.figures]

RATES = ("sensitivity", "specificity", "ppv", "npv", "referral_rate")


@pytest.fixture
def report(trained_place: Path, pages: dict[str, Path]) -> Path:
    """The page of the training "first"."""
    if "first" not in pages:
        pages["first"] = trained_place / "browsed.html"
        make_report("first", out=pages["first"], device="cpu", workers=1)
    return pages["first"]


@contextmanager
def opened(browser: Browser, path: Path, **options: Any) -> Iterator[Page]:
    """The page ``path`` from disk; afterwards, nothing must have been asked of anybody and no error been written."""
    context = browser.new_context(**options)
    page = context.new_page()
    asked, said = watch(page)
    page.goto(path.resolve().as_uri())
    yield page
    assert asked == [path.resolve().as_uri()]
    assert said == []
    context.close()


def watch(page: Page) -> tuple[list[str], list[str]]:
    """Lists that fill with the addresses that are asked for, and with the errors and warnings of the console."""
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    return asked, said


def read(page: Page | Frame) -> dict[str, str]:
    """The numbers below the threshold."""
    return {name: page.locator(f"#out-{name}").inner_text() for name in RATES}


def printed(evaluation: Evaluation) -> dict[str, str]:
    """The same as ``retino eval`` prints them."""
    assert evaluation.operating is not None
    return {name: f"{evaluation.operating.values[name]:.4f}" for name in RATES}


def test_a_cell_opens_its_images_by_mouse_and_keyboard(browser: Browser, report: Path) -> None:
    store = open_store()
    matrix = json.loads(store.download(store.find("first").run_id, "test/metrics.json").read_text("utf-8"))
    with opened(browser, report) as page:
        cells = page.locator("[data-cell]")
        assert cells.count() == sum(n > 0 for row in matrix["confusion_matrix"] for n in row)
        for place in range(cells.count()):
            cell = cells.nth(place)
            true, said = map(int, str(cell.get_attribute("data-cell")).split("-"))
            cell.click()
            assert cell.get_attribute("aria-expanded") == "true"
            thumbs = page.locator("#cell-images img")
            assert thumbs.count() == matrix["confusion_matrix"][true][said]
            assert all(
                thumbs.nth(k).evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
                for k in range(thumbs.count())
            )
            assert f"True {true}" in page.locator("#cell-images h3").inner_text()
        assert page.locator('[data-cell][aria-expanded="true"]').count() == 1
        first = cells.first
        first.focus()
        page.keyboard.press("Enter")
        assert first.get_attribute("aria-expanded") == "true"
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # Close, and back to the cell
        assert page.locator("#cell-images").is_hidden()
        assert first.evaluate("button => button === document.activeElement")


def test_the_threshold_gives_what_eval_prints(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        for options in (
            {"sensitivity": 0.5},
            {"sensitivity": 1.0},
            {"specificity": 0.6, "prevalence": 0.07},
            {"sensitivity": 0.8, "prevalence": 0.0},
            {"sensitivity": 0.8, "prevalence": 1.0},
        ):
            evaluation = evaluate("first", device="cpu", workers=1, **options)  # type: ignore[arg-type] # by name
            assert evaluation.operating is not None
            page.locator("#own-prevalence").click()
            if "prevalence" in options:
                page.locator("#prevalence").fill(repr(100 * options["prevalence"]))
            page.locator("#threshold-value").fill(repr(evaluation.operating.threshold))
            assert read(page) == printed(evaluation)
            counts = evaluation.operating.counts
            assert {name: int(page.locator(f"#out-{name}").inner_text()) for name in counts} == counts


def test_fitted_points_are_those_of_validation(browser: Browser, report: Path) -> None:
    evaluation = evaluate("first", sensitivity=0.9, device="cpu", workers=1)
    with opened(browser, report) as page:
        before = (
            page.locator('[data-mark="roc"]').get_attribute("cx"),
            page.locator('[data-mark="pr"]').get_attribute("cx"),
        )
        page.locator("#threshold-slider").fill("0.999")
        assert page.locator("#threshold-value").input_value() == "0.999"
        assert float(read(page)["referral_rate"]) < 0.5
        after = (
            page.locator('[data-mark="roc"]').get_attribute("cx"),
            page.locator('[data-mark="pr"]').get_attribute("cx"),
        )
        assert after != before
        button = page.get_by_role("button", name="for sensitivity 0.9").first
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        assert read(page) == printed(evaluation)


def test_numbers_between_two_are_rounded_as_python_does(browser: Browser, report: Path) -> None:
    values = [0.65625, 0.03125, 0.21875, 1 / 3, 0.99995, 0.00005, 0.5, 1.0, 0.0, 5 / 64, 7 / 128, 0.1 + 0.2, -0.28125]
    with opened(browser, report) as page:
        assert page.evaluate("values => values.map(format)", values) == [f"{value:.4f}" for value in values]
        assert page.evaluate("format(0 / 0)") == "n/a"


def test_heat_maps_fade(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        heat, sliders = page.locator(".heat"), page.locator("[data-heat]")
        assert heat.count() == sliders.count() > 1
        sliders.first.fill("0")
        assert heat.first.evaluate("image => getComputedStyle(image).opacity") == "0"
        page.locator("#heat-all").fill("80")
        shown = heat.evaluate_all("all => all.map((image) => getComputedStyle(image).opacity)")
        assert shown == ["0.8"] * heat.count()


def test_the_keyboard_reaches_images_that_scroll(browser: Browser, report: Path) -> None:
    with opened(browser, report, viewport={"width": 390, "height": 300}) as page:
        cells = page.locator("[data-cell]")
        fullest = max(range(cells.count()), key=lambda place: int(re.findall(r"\d+", cells.nth(place).inner_text())[0]))
        cells.nth(fullest).click()
        images = page.locator("#cell-images ul")
        assert images.evaluate("list => list.scrollHeight > list.clientHeight")
        images.focus()
        assert images.evaluate("list => list === document.activeElement")
        page.keyboard.press("End")
        for _ in range(100):  # it may scroll smoothly; the page's own rules forbid to wait with a script
            if images.evaluate("list => list.scrollTop") > 0:
                break
            page.wait_for_timeout(50)
        assert images.evaluate("list => list.scrollTop") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_it_is_accessible_and_fits(browser: Browser, report: Path, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with opened(browser, report, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        page.locator("[data-cell]").first.click()
        assert page.evaluate("document.documentElement.scrollWidth") == width  # nothing sticks out
        found = axe.run(page).response["violations"]
        grave = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
        assert grave == []


def test_it_works_in_the_sandboxed_frame_of_an_artifact_view(browser: Browser, report: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked, said = watch(page)
    page.set_content("<title>host</title>")
    page.evaluate(
        """(text) => {
            const frame = document.createElement("iframe");
            frame.sandbox = "allow-scripts";
            frame.src = URL.createObjectURL(new Blob([text], { type: "text/html" }));
            document.body.append(frame);
        }""",
        report.read_text(encoding="utf-8"),
    )
    page.wait_for_function("() => window.frames.length === 1")
    frame = page.frames[1]
    frame.locator("[data-cell]").first.click()
    assert frame.locator("#cell-images img").count() > 0
    frame.locator("#threshold-value").fill("0")
    assert read(frame)["sensitivity"] == "1.0000"
    assert [url for url in asked if not url.startswith("blob:")] == []
    assert said == []
    context.close()


def test_it_prints_without_controls(browser: Browser, report: Path) -> None:
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        assert page.locator("nav").is_hidden()
        assert page.locator(".fade").first.is_hidden()
        assert page.locator("#out-sensitivity").is_visible()
        assert page.pdf().startswith(b"%PDF")


@pytest.mark.slow
@pytest.mark.real_data
def test_a_report_on_photographs(
    browser: Browser, real_data: Path, workplace: Path, quick: Callable[..., TrainConfig]
) -> None:
    from retino_cli.training.train import train

    train(quick(data=real_data / "idrid", run_name="idrid", image_size=64, val_fraction=0.15, workers=None))
    made = make_report("idrid", out=workplace / "idrid.html", device="cpu")
    assert made.n_images == made.n_pictures == 103
    assert made.n_bytes < 15_000_000
    evaluation = evaluate("idrid", sensitivity=0.95, device="cpu")
    assert evaluation.operating is not None
    with opened(browser, workplace / "idrid.html") as page:
        page.locator("[data-cell]").first.click()
        assert page.locator("#cell-images img").count() > 0
        page.locator("#threshold-value").fill(repr(evaluation.operating.threshold))
        assert read(page) == printed(evaluation)
