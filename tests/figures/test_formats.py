"""Formats of figures: what is asked for, and what the files hold."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from retino_cli.errors import UsageError
from retino_cli.figures import style
from retino_cli.figures.confusion import draw_confusion
from retino_cli.figures.formats import asked_formats, figure_formats, parse_formats
from retino_cli.grades import GRADE_NAMES

pytestmark = pytest.mark.figures

COUNTS = [[9, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 3, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 1, 2]]


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        ("png", ("png",)),
        ("PDF, svg,", ("pdf", "svg")),
        (["png,pdf", "svg", "png"], ("png", "pdf", "svg")),
    ],
)
def test_formats_are_named_with_commas_or_one_by_one(given: str | Iterable[str], formats: tuple[str, ...]) -> None:
    assert parse_formats(given) == formats


@pytest.mark.parametrize(("given", "text"), [("png,gif", "'gif'; the formats are png, svg, pdf"), (" , ", "no format")])
def test_unknown_formats_and_none_are_refused(given: str, text: str) -> None:
    with pytest.raises(UsageError, match=text), figure_formats(given):
        pytest.fail("the block was entered")
    assert asked_formats() == ("png", "svg")


def test_what_is_asked_for_holds_within_the_block(tmp_path: Path) -> None:
    figure = draw_confusion([("run", COUNTS)])
    with figure_formats("pdf"):
        with figure_formats(["svg", "png"]):
            assert [path.suffix for path in style.save(figure, tmp_path / "inner")] == [".svg", ".png"]
        assert [path.suffix for path in style.save(figure, tmp_path / "outer")] == [".pdf"]
    assert [path.suffix for path in style.save(figure, tmp_path / "plain")] == [".png", ".svg"]


def pdf_texts(content: bytes) -> list[str]:
    """The strings that a PDF of matplotlib's shows. Its codes are one or two bytes; here all are of Latin-1."""
    shown = []
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
        try:
            page = zlib.decompress(stream)
        except zlib.error:
            continue
        for block in re.findall(rb"BT\n(.*?)\nET", page, re.DOTALL):
            codes = b"".join(re.findall(rb"\(((?:\\.|[^\\)])*)\)", block, re.DOTALL))
            shown.append(codes.replace(b"\0", b"").decode("latin-1"))
    return shown


def test_pdf_holds_text_in_truetype_and_neither_date_nor_version(tmp_path: Path) -> None:
    (path,) = style.save(draw_confusion([("a run of mine", COUNTS)]), tmp_path / "c", formats=("pdf",))
    content = path.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    for word in (b"CreationDate", b"ModDate", b"Matplotlib", b"matplotlib"):
        assert word not in content
    assert b"/ToUnicode" in content
    text = pdf_texts(content)
    assert "a run of mine" in text
    for grade, name in enumerate(GRADE_NAMES):
        assert f"{grade}  {name}" in text


def test_svg_holds_text_and_neither_date_nor_version(tmp_path: Path) -> None:
    (path,) = style.save(draw_confusion([("a run of mine", COUNTS)]), tmp_path / "c", formats=("svg",))
    content = path.read_text(encoding="utf-8")
    for name in ("a run of mine", *GRADE_NAMES):
        assert re.search(rf"<text[^>]*>[^<]*{name}</text>", content)
    assert "Matplotlib" not in content.split("<defs>")[0]
    assert "date" not in content.split("<defs>")[0]
