"""The shell: one document that fetches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from retino_cli.errors import DataError
from retino_cli.report.markup import element
from retino_cli.report.page import Section, is_own_page, render_page, table, with_interval, write_page

NASTY = "<script>alert(1)</script>"


def test_titles_of_a_person_are_escaped_everywhere() -> None:
    page = render_page(
        title=NASTY, kind="Report", lead=NASTY, sections=[Section("a", NASTY, NASTY)], data={"name": NASTY}
    )
    assert NASTY not in page
    assert page.count("alert(1)") == 7  # title, heading, lead, navigation, section and its text, island
    assert page.count("<script") == 2  # the island and page.js


def test_the_policy_lets_nothing_be_fetched_and_stands_before_style_and_script() -> None:
    page = render_page(title="a", kind="Report", lead="", sections=[])
    policy = page.index("Content-Security-Policy")
    assert policy < page.index("<style") < page.index("<script")
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert " onclick=" not in page


def test_every_section_is_reached_from_the_navigation() -> None:
    page = render_page(title="a", kind="Report", lead="", sections=[Section("one", "First", "x", "Short")])
    assert '<a href="#one">Short</a>' in page
    assert '<section id="one" aria-labelledby="one-title"><h2 id="one-title">First</h2>' in page


def test_a_table_names_its_rows_and_columns() -> None:
    written = table(["a", "b"], [["x", element("b", "y")]], caption="c")
    assert '<th scope="col">a</th>' in written
    assert '<th scope="row">x</th><td><b>y</b></td>' in written
    assert "<thead>" not in table(None, [["x", "y"]], caption="c")


def test_an_interval_stands_beside_its_value_where_there_is_one() -> None:
    assert "[0.100, 0.300]" in "".join(with_interval("0.2", 0.1, 0.3))
    assert with_interval("0.2", None, 0.3) == "0.2"


def test_a_page_is_written_whole_and_known_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_page(render_page(title="a", kind="Report", lead="", sections=[]), path)
    assert is_own_page(path)
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    path.write_text("<!DOCTYPE html><p>mine", encoding="utf-8")
    assert not is_own_page(path)
    with pytest.raises(DataError, match="cannot be written"):
        write_page(element("p"), tmp_path / "new" / "page.html" / "below.html")
