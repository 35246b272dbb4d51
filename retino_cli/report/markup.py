"""HTML as text in which everything that is not markup already is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping
from typing import Final

_VOID: Final = frozenset(("br", "hr", "img", "input", "meta", "link"))


class Html(str):
    """Text that is HTML already. Whatever is not an ``Html`` is escaped where it enters a page."""

    __slots__ = ()


Content = str | Iterable["Content"] | None
"""What an element may hold: text (escaped), ``Html`` (taken as it is), several of these, or None for nothing."""


def element(name: str, /, *children: Content, **attributes: object) -> Html:
    """The element ``name`` with ``children``; text among them is escaped.

    Attributes: ``class_`` and ``for_`` lose their last underscore, ``data_x`` and ``aria_label`` become data-x and
    aria-label. True writes the bare attribute, None and False leave it out. Floats are written as Python prints them.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(content: Content) -> Html:
    """All of ``content``, one after the other, escaped where it is not ``Html``."""
    if content is None:
        return Html("")
    if isinstance(content, Html):
        return content
    if isinstance(content, str):
        return Html(html.escape(content, quote=False))
    return Html("".join(join(part) for part in content))


def data_island(identifier: str, values: Mapping[str, object]) -> Html:
    """``values`` as JSON that page.js reads; floats as Python's repr, from which JavaScript reads the same float64.

    ``<``, ``>`` and ``&`` are written as escapes, so that no text among the values can end the element. Raises
    ``ValueError`` for NaN and infinite values, which JSON does not have.
    """
    text = json.dumps(values, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return element("script", Html(text), type="application/json", id=identifier)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(str(value))}"'
