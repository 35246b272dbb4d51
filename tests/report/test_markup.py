"""Elements: whatever is not markup is escaped."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retino_cli.report.markup import Html, data_island, element, join

NASTY = "<img src=x onerror=alert(1)>&\"'</script>"


def test_text_and_attributes_are_escaped_and_markup_is_not() -> None:
    written = element("p", NASTY, element("b", "x & y"), title=NASTY)
    assert "<img" not in written
    assert "<b>x &amp; y</b>" in written
    assert written.split(">")[0].count(chr(34)) == 2  # those around the attribute


def test_attributes_are_named_as_html_names_them() -> None:
    written = element("input", class_="a", data_cell="0-1", aria_label="b", open=True, hidden=None, checked=False)
    assert written == '<input class="a" data-cell="0-1" aria-label="b" open>'


def test_several_pieces_are_joined_and_none_is_nothing() -> None:
    assert join(["a<", None, [Html("<br>"), "b"]]) == "a&lt;<br>b"


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.floats(allow_nan=False, allow_infinity=False))))
def test_an_island_gives_back_what_was_put_in_and_cannot_be_left(values: dict[str, object]) -> None:
    written = data_island("x", values)
    body = re.fullmatch(r'<script type="application/json" id="x">(.*)</script>', written, re.DOTALL)
    assert body is not None
    assert "<" not in body[1]
    assert json.loads(body[1]) == values


def test_an_island_refuses_what_json_does_not_have() -> None:
    with pytest.raises(ValueError):
        data_island("x", {"a": float("nan")})
