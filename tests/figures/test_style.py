"""Writing figures: formats, names, equal bytes, nothing half-written, and the user's settings left alone."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import matplotlib.colors
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from retino_cli.errors import DataError, UsageError
from retino_cli.figures import style
from retino_cli.figures.curves import draw_history

pytestmark = pytest.mark.figures

HISTORY = [{"epoch": 1, "train/loss": 1.0, "val/loss": 1.1}, {"epoch": 2, "train/loss": 0.8, "val/loss": 1.0}]


def draw() -> Figure:
    return draw_history(HISTORY, "a $run_1$ & <others>")


def test_save_writes_each_format_and_keeps_a_dot_in_the_name(tmp_path: Path) -> None:
    paths = style.save(draw(), tmp_path / "new" / "resnet18-v1.2", formats=("png", "svg", "pdf"))
    assert [path.name for path in paths] == ["resnet18-v1.2.png", "resnet18-v1.2.svg", "resnet18-v1.2.pdf"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(path.name for path in paths)
    with Image.open(paths[0]) as image:
        assert image.size == (2100, 825)  # 7 x 2.75 inches at 300 dots
        assert np.asarray(image.convert("L")).std() > 5
    assert paths[2].read_bytes().startswith(b"%PDF")


def test_text_in_svg_is_text_as_given(tmp_path: Path) -> None:
    (path,) = style.save(draw(), tmp_path / "f", formats=("svg",))
    text = path.read_text(encoding="utf-8")
    assert "a $run_1$ &amp; &lt;others&gt;</text>" in text
    assert ">Quadratic weighted kappa</text>" in text


def test_equal_figures_give_equal_bytes(tmp_path: Path) -> None:
    first = style.save(draw(), tmp_path / "a", formats=("svg", "png", "pdf"))
    second = style.save(draw(), tmp_path / "b", formats=("png", "svg", "pdf"))
    for one, other in zip(sorted(first), sorted(second), strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"dc:date" not in (tmp_path / "a.svg").read_bytes()


def test_the_user_s_settings_neither_change_nor_count(tmp_path: Path) -> None:
    (plain,) = style.save(draw(), tmp_path / "plain", formats=("svg",))
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        (other,) = style.save(draw(), tmp_path / "other", formats=("svg",))
        assert dict(matplotlib.rcParams) == before
    assert plain.read_bytes() == other.read_bytes()


def test_threads_draw_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda i: style.save(draw(), tmp_path / str(i), formats=("svg",))[0], range(8)))
    assert len({path.read_bytes() for path in paths}) == 1


def test_figures_do_without_pyplot() -> None:
    code = (
        "import sys, retino_cli.figures.confusion, retino_cli.figures.curves; print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_format_and_a_folder_that_cannot_be_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'gif'; the formats are png, svg, pdf"):
        style.save(draw(), tmp_path / "f", formats=("png", "gif"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"f\.png: the figure cannot be written"):
        style.save(draw(), tmp_path / "file" / "f", formats=("png",))


def test_a_failed_write_leaves_the_old_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = style.save(draw(), tmp_path / "f", formats=("svg",))
    before = path.read_bytes()

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(DataError, match="No space left on device"):
        style.save(draw_history([], "other"), tmp_path / "f", formats=("svg",))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_traces_differ_for_64_runs_and_are_dark_enough_on_white() -> None:
    assert len({style.trace(i) for i in range(64)}) == 64
    assert len({style.trace(i).color for i in range(8)}) == len({style.trace(i).marker for i in range(8)}) == 8
    for color, _ in style.TRACES:
        channels = np.asarray(matplotlib.colors.to_rgb(color))
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        assert 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05) > 2  # contrast by WCAG 2


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        ("short", "short"),
        ("two words here", "two words\nhere"),
        ("resnet18-strong", "resnet18-\nstrong"),
        ("a" * 25, "a" * 10 + "\n" + "a" * 10 + "\n" + "a" * 5),
        ("a" * 45, "a" * 10 + "\n" + "a" * 10 + "\n" + "a" * 9 + "…"),
        ("", ""),
    ],
)
def test_wrap(text: str, wrapped: str) -> None:
    assert style.wrap(text, 10) == wrapped
