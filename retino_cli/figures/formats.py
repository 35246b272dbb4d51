"""In which formats figures are written: asked for once, around everything that draws."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from retino_cli.errors import UsageError

FORMATS: Final = ("png", "svg", "pdf")
DEFAULT_FORMATS: Final = ("png", "svg")

_asked: ContextVar[tuple[str, ...]] = ContextVar("figure_formats", default=DEFAULT_FORMATS)


def parse_formats(texts: str | Iterable[str]) -> tuple[str, ...]:
    """The formats that ``texts`` name, with commas or one by one, each once, in the order in which they are named.

    Raises ``UsageError`` for one that is unknown, and where none is named.
    """
    parts = [texts] if isinstance(texts, str) else list(texts)
    names = [name.strip().lower() for text in parts for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise UsageError(f"a figure cannot be written as {unknown[0]!r}; the formats are {', '.join(FORMATS)}")
    if not names:
        raise UsageError("no format of figures is named", f"Name one or more of: {', '.join(FORMATS)}.")
    return tuple(dict.fromkeys(names))


@contextmanager
def figure_formats(texts: str | Iterable[str]) -> Iterator[None]:
    """Within the block, figures are written in these formats ("pdf", "png,svg", ["pdf", "png"]).

    Many functions lie between what a person asks for and the code that writes a figure, and none of them has to do with
    formats: hence a context rather than an argument of each. Errors as in ``parse_formats``.
    """
    token = _asked.set(parse_formats(texts))
    try:
        yield
    finally:
        _asked.reset(token)


def asked_formats() -> tuple[str, ...]:
    """Those of the innermost ``figure_formats``; outside of any, PNG and SVG."""
    return _asked.get()
