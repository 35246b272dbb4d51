"""What a drawn figure says, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from retino_cli.figures import style


def _visible_texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


@pytest.fixture
def texts() -> Callable[[Figure], list[str]]:
    """The texts in a figure."""
    return lambda figure: [text.get_text() for text in _visible_texts(figure)]


@pytest.fixture
def check_layout() -> Callable[[Figure], None]:
    """Fail where the figure is no column and no page wide, and where a text is too small to print, leaves the picture,
    or covers another upright one."""

    def check(figure: Figure) -> None:
        assert figure.get_figwidth() in (style.COLUMN_WIDTH, style.FULL_WIDTH)
        with style.house_style():
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            renderer = canvas.get_renderer()
            boxes = []
            undrawn = _undrawn(figure)
            for text in _visible_texts(figure):
                if id(text) in undrawn:
                    continue
                assert text.get_fontsize() >= style.SMALLEST, f"{text.get_text()!r} is too small"
                box = text.get_window_extent(renderer)
                assert box.x0 >= -1, f"{text.get_text()!r} leaves the picture on the left"
                assert box.y0 >= -1, f"{text.get_text()!r} leaves the picture at the bottom"
                assert box.x1 <= figure.bbox.x1 + 1, f"{text.get_text()!r} leaves the picture on the right"
                assert box.y1 <= figure.bbox.y1 + 1, f"{text.get_text()!r} leaves the picture at the top"
                if text.get_rotation() == 0:
                    boxes.append((text.get_text(), box.padded(-1)))
        for i, (one, a) in enumerate(boxes):
            for other, b in boxes[i + 1 :]:
                assert not a.overlaps(b), f"{one!r} and {other!r} cover each other"

    return check


def _undrawn(figure: Figure) -> set[int]:
    """The labels of ticks outside the limits, by id: matplotlib keeps them and does not draw them."""
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            margin = 1e-9 * (high - low)
            for tick in axis.get_major_ticks():
                if not low - margin <= tick.get_loc() <= high + margin:
                    hidden.add(id(tick.label1))
    return hidden
