"""The shell of a page: one HTML document that needs nothing else, on a screen, a phone and on paper.

Style and script lie beside this file in ``assets/`` and are written into the page. The content security policy lets
nothing be fetched: a page works from disk, without a network, and in the sandboxed frame of MLflow's artifact view, and
nobody hears that it was opened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

from retino_cli import __version__
from retino_cli.errors import DataError, UsageError
from retino_cli.report.markup import Content, Html, data_island, element, join
from retino_cli.whole import whole_file

POLICY: Final = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_GENERATOR: Final = '<meta name="generator" content="retino">'
DATA_ID: Final = "page-data"
NOT_A_DEVICE: Final = "For research. Not a medical device: no decision about a patient may rest on this page."


@dataclass(frozen=True)
class Section:
    """One part of a page: ``key`` is its anchor (letters, digits, hyphens), ``body`` what stands below the title,
    ``short`` its name in the navigation (default: the title)."""

    key: str
    title: str
    body: Content
    short: str = ""


def render_page(
    *,
    title: str,
    kind: str,
    lead: Content,
    sections: Sequence[Section],
    data: Mapping[str, object] | None = None,
) -> Html:
    """The whole document. ``kind`` stands above the ``title`` ("Report", "Comparison"), ``lead`` below it; ``data`` is
    what page.js works with, as JSON-able values."""
    navigation = element(
        "nav",
        element(
            "ul", [element("li", element("a", part.short or part.title, href=f"#{part.key}")) for part in sections]
        ),
        aria_label="Parts of this page",
    )
    body = [
        element("a", "Skip to the content", href="#content", class_="skip"),
        element(
            "header",
            element("p", kind, class_="kind"),
            element("h1", title),
            element("div", lead, class_="lead"),
            class_="top",
        ),
        navigation,
        element("main", [_section(part) for part in sections], id="content"),
        element(
            "footer",
            element("p", NOT_A_DEVICE),
            element(
                "p", f"Made by retino {__version__}. This file holds everything that it shows and fetches nothing."
            ),
        ),
    ]
    head = [
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        Html(_GENERATOR),
        element("title", f"{title} - {kind}"),
        element("style", _asset("page.css")),
    ]
    scripts = [data_island(DATA_ID, data or {}), element("script", _asset("page.js"))]
    return join(
        [Html("<!DOCTYPE html>\n"), element("html", element("head", head), element("body", body, scripts), lang="en")]
    )


def table(
    header: Sequence[Content] | None, rows: Sequence[Sequence[Content]], *, caption: str, class_: str = ""
) -> Html:
    """A table whose first column names its rows; it scrolls by itself where the screen is narrower. ``header`` None:
    there is no line above the rows."""
    head = None
    if header is not None:
        head = element("thead", element("tr", [element("th", cell, scope="col") for cell in header]))
    lines = [
        element("tr", element("th", first, scope="row"), [element("td", cell) for cell in rest])
        for first, *rest in rows
    ]
    return scrolling(
        element("table", element("caption", caption), head, element("tbody", lines)), caption=caption, class_=class_
    )


def scrolling(whole: Html, *, caption: str, class_: str = "") -> Html:
    """A table in a box of its own, which scrolls, and is reached by keyboard, where the table is wider than it."""
    return element(
        "div", whole, class_=f"scroll {class_}".strip(), tabindex="0", role="region", aria_label=f"Table: {caption}"
    )


def with_interval(value: str, low: float | None, high: float | None, *, digits: int = 3) -> Content:
    """A value and, smaller, the ends of its interval, which stand below it where the screen is narrow."""
    if low is None or high is None:
        return value
    return [value, " ", element("span", f"[{low:z.{digits}f}, {high:z.{digits}f}]", class_="ends")]


def notice(content: Content, *, kind: str = "note") -> Html:
    """A paragraph that stands out; ``kind`` is "note" or "warning"."""
    return element("p", element("strong", "Warning: ") if kind == "warning" else None, content, class_=f"notice {kind}")


def write_page(page: Html, path: Path) -> None:
    """Write ``page`` (UTF-8), whole or not at all; missing folders are made. DataError where it cannot be written."""
    try:
        with whole_file(path) as partial:
            partial.write_text(page, encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: the page cannot be written: {error.strerror}", "Give another --out.") from error


def check_place(out: Path) -> None:
    """Raise UsageError where a page cannot go to ``out``: a folder, or a file that is no page of retino's."""
    if out.is_dir():
        raise UsageError(f"--out {out} is a folder.", f"Name a file: --out {out / 'page.html'}")
    if out.exists() and not is_own_page(out):
        raise UsageError(f"--out {out} is there, and retino did not make it.", "Name another file.")


def is_own_page(path: Path) -> bool:
    """Whether the file ``path`` is a page that ``render_page`` made."""
    try:
        with path.open("rb") as file:
            return _GENERATOR.encode() in file.read(2048)
    except OSError:
        return False


def _section(part: Section) -> Html:
    name = f"{part.key}-title"
    return element("section", element("h2", part.title, id=name), part.body, id=part.key, aria_labelledby=name)


def _asset(name: str) -> Html:
    return Html((files("retino_cli.report") / "assets" / name).read_text(encoding="utf-8"))
