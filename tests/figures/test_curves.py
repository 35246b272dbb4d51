"""Learning curves: the lines that are drawn, gaps, one epoch, many runs, and that it all fits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from retino_cli.figures import style
from retino_cli.figures.curves import draw_comparison, draw_history

Texts = Callable[[Figure], list[str]]
Check = Callable[[Figure], None]


def history(n: int, splits: tuple[str, ...] = ("train", "val"), offset: float = 0.0) -> list[dict[str, float]]:
    return [
        {"epoch": epoch}
        | {f"{split}/accuracy": 0.5 + offset + 0.4 * (1 - 1 / epoch) - 0.05 * i for i, split in enumerate(splits)}
        | {f"{split}/qwk": 0.2 + offset + 0.5 * (1 - 1 / epoch) - 0.05 * i for i, split in enumerate(splits)}
        | {f"{split}/loss": 1.4 - offset - 0.5 * (1 - 1 / epoch) + 0.05 * i for i, split in enumerate(splits)}
        for epoch in range(1, n + 1)
    ]


def line(axes: Axes, name: str) -> Line2D:
    (found,) = [line for line in axes.get_lines() if line.get_gid() == name]
    return found


def test_history_draws_three_metrics_of_both_splits(check_layout: Check, texts: Texts) -> None:
    given = history(10)
    figure = draw_history(given, "resnet18-idrid", majority=0.33)
    assert len(figure.axes) == 3
    for axes, metric in zip(figure.axes, ("loss", "accuracy", "qwk"), strict=True):
        for split, dashes in (("train", "--"), ("val", "-")):
            drawn = line(axes, f"{split}/{metric}")
            np.testing.assert_array_equal(drawn.get_xdata(), range(1, 11))
            np.testing.assert_array_equal(drawn.get_ydata(), [epoch[f"{split}/{metric}"] for epoch in given])
            assert drawn.get_linestyle() == dashes
    assert list(line(figure.axes[1], "majority").get_ydata()) == [0.33, 0.33]
    assert {"resnet18-idrid", "train", "validation", "majority baseline (0.330)"} <= set(texts(figure))
    assert "test" not in texts(figure)
    check_layout(figure)


def test_values_that_are_missing_or_not_finite_are_left_out(check_layout: Check, texts: Texts) -> None:
    given = history(6)
    for i, epoch in enumerate(given):
        del epoch["train/qwk"], epoch["val/qwk"]
        if i % 2:
            del epoch["val/accuracy"]
    given[2]["train/loss"] = float("nan")
    given[3]["train/loss"] = float("inf")
    figure = draw_history(given, "gaps")
    assert list(line(figure.axes[0], "train/loss").get_xdata()) == [1, 2, 5, 6]
    assert list(line(figure.axes[1], "val/accuracy").get_xdata()) == [1, 3, 5]
    assert figure.axes[2].get_lines() == []
    assert texts(figure).count("not measured") == 1
    check_layout(figure)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_history_of_any_length_fits(n: int, check_layout: Check) -> None:
    title = "a-run_name-" * 12
    figure = draw_history(history(n), title, majority=0.5)
    check_layout(figure)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low < 1 <= max(n, 1) < high
        assert all(float(tick).is_integer() for tick in axes.get_xticks())
        if axes.get_yticks().size:
            assert np.ptp(axes.get_ylim()) >= 0.1 - 1e-12


def test_comparison_is_the_lab_s_figure(check_layout: Check, texts: Texts) -> None:
    runs = [
        ("scratch", history(10, ("train", "epoch_test"))),
        ("pretrained", history(10, ("train", "val", "epoch_test"), 0.05)),
    ]
    figure = draw_comparison(runs, majority=0.7336, title="ResNet18")
    (axes,) = figure.axes
    assert [drawn.get_gid() for drawn in axes.get_lines()] == ["train/accuracy", "epoch_test/accuracy"] * 2 + [
        "majority"
    ]
    assert [drawn.get_linestyle() for drawn in axes.get_lines()] == ["--", "-"] * 2 + [":"]
    colours = [drawn.get_color() for drawn in axes.get_lines()[:4]]
    assert colours == [style.TRACES[0].color] * 2 + [style.TRACES[1].color] * 2
    np.testing.assert_array_equal(
        axes.get_lines()[3].get_ydata(), [epoch["epoch_test/accuracy"] for epoch in runs[1][1]]
    )
    shown = texts(figure)
    assert {"ResNet18", "scratch", "pretrained", "train", "test", "majority baseline (0.734)", "Accuracy"} <= set(shown)
    check_layout(figure)


def test_comparison_takes_validation_unless_every_run_has_test(texts: Texts) -> None:
    figure = draw_comparison([("a", history(3, ("train", "val", "epoch_test"))), ("b", history(3))])
    gids = [drawn.get_gid() for drawn in figure.axes[0].get_lines()]
    assert gids == ["train/accuracy", "val/accuracy"] * 2
    assert "validation" in texts(figure)
    assert "test" not in texts(figure)


@pytest.mark.parametrize("n_epochs", [1, 20])
@pytest.mark.parametrize("n_runs", [1, 3, 8, 12])
@pytest.mark.parametrize(
    "name", ["run", "resnet50-pretrained_strong-recipe-on-idrid-seed-0-with-a-name-that-never-ends"]
)
def test_comparison_fits(n_epochs: int, n_runs: int, name: str, check_layout: Check) -> None:
    runs = [(f"{i} {name}", history(n_epochs, offset=0.01 * i)) for i in range(n_runs)]
    figure = draw_comparison(runs, majority=0.6, title="Accuracy by epoch")
    check_layout(figure)
    (axes,) = figure.axes
    assert axes.get_window_extent().height > 0.45 * 2.6 * figure.dpi  # the legend does not eat the picture
    looks = {(drawn.get_color(), drawn.get_marker()) for drawn in axes.get_lines() if drawn.get_gid() != "majority"}
    assert len(looks) == n_runs


def test_comparison_of_another_metric_and_of_nothing(texts: Texts) -> None:
    figure = draw_comparison([("a", history(3))], metric="qwk")
    assert "Quadratic weighted kappa" in texts(figure)
    assert "not measured" in texts(draw_comparison([("a", [{"epoch": 1, "train/loss": 1.0}])]))
    with pytest.raises(ValueError, match="no run"):
        draw_comparison([])
