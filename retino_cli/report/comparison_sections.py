"""The parts of a comparison's page that are made from its numbers alone: verdict, metrics, differences, matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from retino_cli.evaluation.comparison import OF_THE_DATA, Comparison, format_group
from retino_cli.evaluation.differences import KINDS, Difference, choose_pairs, list_differences
from retino_cli.evaluation.metrics import LOWER_IS_BETTER, Undefined
from retino_cli.evaluation.pairs import HEADLINE, Pair
from retino_cli.evaluation.resampling import Interval
from retino_cli.evaluation.verdict import DISPLAY_NAMES
from retino_cli.grades import GRADE_NAMES
from retino_cli.report.difference_charts import DifferenceRow, difference_matrix, difference_plot, small_matrix
from retino_cli.report.markup import Content, Html, element, join
from retino_cli.report.page import Section, notice, table
from retino_cli.report.sides import Side, badge, mean_matrix

_MOST_COLUMNS: Final = 6
"""Runs or groups that a table of metrics, or the matrices, show side by side."""


def verdict_section(comparison: Comparison, sides: Sequence[Side]) -> Section:
    """Whether the data can tell the sides apart, in sentences; then the metrics side by side."""
    body: list[Content] = [element("p", sentence, class_="sentence") for sentence in comparison.sentences]
    body += [notice(caution, kind="warning") for caution in comparison.cautions]
    for run in comparison.runs:
        if run.collapsed is not None:
            body.append(
                notice(
                    f"{run.label} has collapsed: it says (almost) only grade {run.collapsed} "
                    f"({GRADE_NAMES[run.collapsed]}), and its accuracy means nothing.",
                    kind="warning",
                )
            )
    body += [element("p", _what_is_compared(comparison), class_="hint"), *_metric_tables(comparison, sides)]
    return Section("verdict", "What the data say", body)


def differences_section(comparison: Comparison, sides: Sequence[Side]) -> Section:
    """Every difference with its interval: of two, metric by metric; of more, the headline metrics pair by pair."""
    key, title = "differences", "Differences with their intervals"
    body: list[Content] = [
        element(
            "p",
            "A line that crosses 0 is a difference that may be none; what counts is what the data say, from the test "
            "where there is one. Filled dots: the data tell the two apart.",
            class_="hint",
        )
    ]
    if len(comparison.pairs) == 1:
        (pair,) = comparison.pairs
        a, b = sides[pair.a], sides[pair.b]
        for kind, metrics, lower in KINDS:
            caption = f"{kind}{': the axis is turned round' if lower else ''}. {b.letter} minus {a.letter}."
            rows = [_row(one.label, one, a, b) for one in list_differences(pair, metrics)]
            if rows:
                ends = (f"{a.letter} better", f"{b.letter} better")
                body.append(difference_plot(rows, caption=caption, first="Metric", ends=ends, lower_is_better=lower))
    else:
        shown = choose_pairs(comparison)
        if len(shown) < len(comparison.pairs):
            body.append(
                element(
                    "p", f"Drawn are the pairs with {sides[0].letter}; all {len(comparison.pairs)} are in the table."
                )
            )
        for name in HEADLINE:
            rows = [
                _row(_pair_label(pair, sides), one, sides[pair.a], sides[pair.b])
                for pair in shown
                for one in list_differences(pair, (name,))
            ]
            if rows:
                caption = f"{_upper(DISPLAY_NAMES[name])}: the second named minus the first."
                ends = ("first better", "second better")
                body.append(difference_plot(rows, caption=caption, first="Pair", ends=ends))
        body.append(_pairs_table(comparison, sides))
    body += [element("p", text, class_="hint") for text in _undefined(comparison, sides)]
    return Section(key, title, body)


def matrices_section(comparison: Comparison, sides: Sequence[Side]) -> Section:
    """The confusion matrix of every side, and the differences to the first."""
    key, title = "confusion", "Confusion matrices and their difference"
    found = [(side, mean_matrix(comparison, side)) for side in sides[:_MOST_COLUMNS]]
    grids: list[Html] = []
    known = []
    for side, matrix in found:
        if matrix is None:
            continue
        digits = 0 if len(side.members) == 1 else 1
        mean = "" if len(side.members) == 1 else f", mean of {len(side.members)} runs"
        caption = join([badge(side), f" {side.label}{mean}"])
        grids.append(small_matrix(matrix, caption=caption, name=f"Confusion matrix of {side.label}", digits=digits))
        known.append((side, matrix))
    if not known:
        return Section(key, title, element("p", "There is no confusion matrix: no predicted grades are stored."))
    differences: list[Html] = []
    for side, matrix in known[1:]:
        first, other = known[0]
        digits = 0 if len(side.members) == len(first.members) == 1 else 1
        differences.append(
            element(
                "div",
                difference_matrix(
                    other,
                    matrix,
                    caption=join([badge(side), " minus ", badge(first), ", images and points of the row"]),
                    name=f"Confusion matrix of {side.label} minus that of {first.label}",
                    digits=digits,
                ),
                class_=f"difference a{first.look + 1} b{side.look + 1}",
            )
        )
    body: list[Content] = [
        element(
            "p",
            "Rows: true grade. Columns: predicted grade. Percentages are shares of the row; the diagonal is right, and "
            "an orange bar marks errors of two grades or more.",
            class_="hint",
        ),
        element("div", grids, class_="matrices"),
    ]
    if differences:
        body.append(element("div", differences, class_="matrices"))
        body.append(
            element(
                "p",
                "Difference: each cell is coloured like the one that says it more often. More on the diagonal is "
                "better, more off it is worse.",
                class_="hint",
            )
        )
    if len(sides) > _MOST_COLUMNS:
        body.append(element("p", f"Shown are the first {_MOST_COLUMNS} of {len(sides)}.", class_="hint"))
    return Section(key, title, body)


def _what_is_compared(comparison: Comparison) -> str:
    several = len(comparison.pairs) > 1
    text = "Differences are paired by image, with 95 % bootstrap intervals, by patient where patients are known"
    if len(comparison.groups) > 1:
        return (
            f"{text}: those of the groups' means. They say how much the images matter; how much the seeds do, is what "
            "the standard deviation shows." + (" Tests are adjusted by Holm." if several else "")
        )
    return (
        f"{text}; the tests are McNemar's (accuracy), DeLong's (AUC) and the bootstrap's (QWK)"
        + (f", adjusted by Holm over {len(comparison.pairs)} pairs" if several else "")
        + "."
    )


def _metric_tables(comparison: Comparison, sides: Sequence[Side]) -> list[Content]:
    columns = sides[:_MOST_COLUMNS]
    grouped = len(comparison.groups) > 1
    body: list[Content] = []
    header: list[Content] = ["Metric", *(join([badge(side), f" {side.label}"]) for side in columns)]
    rows: list[list[Content]] = []
    for name, label in (("majority_accuracy", "accuracy of the majority baseline"), *DISPLAY_NAMES.items()):
        best = None if name in OF_THE_DATA else comparison.told(name)
        cells: list[Content] = []
        for place, side in enumerate(columns):
            text = (
                format_group(comparison.groups[place], name) if grouped else _value(comparison, side.members[0], name)
            )
            badge_of_best = element("span", "better", class_="better") if place == best else None
            cells.append(join([text, " ", badge_of_best] if badge_of_best else [text]))
        direction = " (lower is better)" if name in LOWER_IS_BETTER else ""
        rows.append([f"{_upper(label)}{direction}", *cells])
    what = "mean and standard deviation over the runs" if grouped else "with 95 % intervals"
    mark = "Marked as better is only what the data can tell from every other."
    body.append(table(header, rows, caption=f"Metrics, {what}. {mark}", class_="metrics"))
    if len(sides) > _MOST_COLUMNS:
        body.append(
            element("p", f"Shown are the first {_MOST_COLUMNS} of {len(sides)}; comparison.md has all.", class_="hint")
        )
    return body


def _value(comparison: Comparison, place: int, name: str) -> str:
    run = comparison.runs[place]
    interval = run.intervals.get(name)
    ends = f" [{interval.low:.3f}, {interval.high:.3f}]" if isinstance(interval, Interval) else ""
    return f"{run.metrics[name]:.4f}{ends}"


def _row(label: Content, one: Difference, a: Side, b: Side) -> DifferenceRow:
    interval = one.interval
    return DifferenceRow(
        label, interval.estimate, interval.low, interval.high, one.better is not None, _verdict(one, a, b)
    )


def _verdict(one: Difference, a: Side, b: Side) -> Html:
    p_value = None if one.p_value is None else element("span", f" {_p(one.p_value)}", class_="hint")
    if one.better is None:
        return join(["cannot tell", p_value])
    return join([badge(b if one.better == "b" else a), " better", p_value])


def _pair_label(pair: Pair, sides: Sequence[Side]) -> Html:
    return join([badge(sides[pair.b]), " minus ", badge(sides[pair.a])])


def _pairs_table(comparison: Comparison, sides: Sequence[Side]) -> Html:
    rows: list[list[Content]] = []
    for pair in comparison.pairs:
        cells: list[Content] = []
        for name in HEADLINE:
            found = list_differences(pair, (name,))
            if not found:
                cells.append("n/a")
                continue
            one = found[0]
            numbers = f"{one.interval.estimate:+.4f} [{one.interval.low:+.3f}, {one.interval.high:+.3f}] "
            cells.append(join([numbers, _verdict(one, sides[pair.a], sides[pair.b])]))
        rows.append([_pair_label(pair, sides), *cells])
    header = ["Pair", *(_upper(DISPLAY_NAMES[name]) for name in HEADLINE)]
    return table(header, rows, caption="All pairs; p-values are adjusted by Holm.", class_="pairs")


def _undefined(comparison: Comparison, sides: Sequence[Side]) -> list[str]:
    """Why differences are n/a, each reason once."""
    found: dict[str, list[str]] = {}
    for pair in comparison.pairs:
        for name, difference in pair.differences.items():
            if isinstance(difference, Undefined) and name in DISPLAY_NAMES:
                names = found.setdefault(difference.reason, [])
                if DISPLAY_NAMES[name] not in names:
                    names.append(DISPLAY_NAMES[name])
    return [f"Without a difference: {', '.join(names)} ({reason})." for reason, names in found.items()]


def _p(value: float) -> str:
    return "p < 0.0001" if value < 0.0001 else f"p = {value:.2g}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]
