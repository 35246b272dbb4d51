"""One style for every figure, and the only code that writes a figure to disk.

Figures are plain ``matplotlib.figure.Figure`` objects, never pyplot's: no window, no global list of figures. They are
drawn at the size at which they are printed, ``COLUMN_WIDTH`` or ``FULL_WIDTH`` wide, with no letter below ``SMALLEST``
points. Text in SVG and PDF stays text, so that it can be edited and searched; the same figure gives the same bytes.
"""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from retino_cli.errors import DataError
from retino_cli.figures.formats import asked_formats, parse_formats
from retino_cli.whole import whole_file

COLUMN_WIDTH: Final = 3.3
"""Inches: a column of a two-column paper."""
FULL_WIDTH: Final = 7.0
"""Inches: the text width of a page, over both columns."""
SMALLEST: Final = 7.0
"""Points: the smallest letters that read well in print."""

INK: Final = "#222222"
MUTED: Final = "#666666"
GRID: Final = "#dddddd"
SEQUENTIAL: Final = "Blues"
"""For shares 0..1: one hue, lightness strictly monotone, so that it reads in grey and with any colour vision."""


class Trace(NamedTuple):
    """How one run is drawn: colour and marker differ together, so that no run is told by its colour alone."""

    color: str
    marker: str


TRACES: Final = (
    Trace("#0072B2", "o"),
    Trace("#D55E00", "s"),
    Trace("#009E73", "^"),
    Trace("#CC79A7", "D"),
    Trace("#E69F00", "v"),
    Trace("#56B4E9", "P"),
    Trace("#882255", "X"),
    Trace("#000000", "*"),
)
"""Okabe and Ito's colours for all colour visions (2008), their yellow, too light on white, replaced by Tol's wine."""

_RC: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 7.5,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.titlesize": 8.5,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 7.5,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.8,
    "pdf.fonttype": 42,  # TrueType: the text can be selected and edited; Type 3, the default, is refused by publishers
    "savefig.dpi": 300,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "retino",
    "text.color": INK,
    "text.parse_math": False,  # a run may be named "a_$b$"
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7,
}

_lock = threading.RLock()


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in retino's style, whatever the user's own matplotlib settings are; they are back afterwards.

    Matplotlib keeps its settings per process: the lock lets one thread at a time draw or save with ours.
    """
    with _lock, matplotlib.style.context(["default", _RC]):
        yield


def new_figure(width: float, height: float, *, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """Make an empty figure of ``width`` x ``height`` inches. "constrained": its parts make room for each other."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def trace(index: int) -> Trace:
    """The colour and marker of run ``index``; from the ninth run on, a colour comes back with another marker."""
    n = len(TRACES)
    return Trace(TRACES[index % n].color, TRACES[(index + index // n) % n].marker)


def wrap(text: str, width: int, max_lines: int = 3) -> str:
    """Break ``text`` into at most ``max_lines`` lines of ``width`` characters, ending in "…" where it is longer."""
    breakable = text.replace("_", "_\u200b").replace("-", "-\u200b").replace("/", "/\u200b")
    lines: list[str] = []
    for piece in breakable.split("\u200b"):
        for part in textwrap.wrap(piece, width, drop_whitespace=False) or [""]:
            if lines and len(lines[-1]) + len(part) <= width:
                lines[-1] += part
            else:
                lines.append(part)
    lines = [line.strip() for line in lines]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], lines[max_lines - 1][: width - 1] + "…"]
    return "\n".join(lines)


def save(figure: Figure, path_without_suffix: Path, formats: Sequence[str] | None = None) -> list[Path]:
    """Write ``figure`` once per format and return the paths, in the order of ``formats``.

    ``formats``: by default those that ``formats.figure_formats`` asks for around this call, else PNG and SVG.
    ``path_without_suffix`` plus ".png", ".svg" or ".pdf" is the name of each file; missing folders are made. Each file
    appears whole or not at all. No date and no version is written: equal figures give equal bytes.

    Raises ``UsageError`` for another format, ``DataError`` where a file cannot be written.
    """
    base = Path(path_without_suffix)
    paths: list[Path] = []
    names = asked_formats() if formats is None else parse_formats(formats)
    with house_style():
        # Its parts find their places once: done anew for each format, they would move by a hair with every file.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
    for name in names:
        # Not with_suffix: "resnet18-v1.2" would lose its ".2".
        path = base.with_name(f"{base.name}.{name}")
        _write(path, _render(figure, name))
        paths.append(path)
    return paths


def _render(figure: Figure, name: str) -> bytes:
    metadata = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[name]
    buffer = io.BytesIO()
    with house_style():
        figure.savefig(buffer, format=name, metadata=metadata)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    try:
        with whole_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise DataError(f"{path}: the figure cannot be written: {error.strerror}") from error
