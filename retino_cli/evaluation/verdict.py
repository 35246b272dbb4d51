"""What a comparison shows, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from retino_cli.evaluation.metrics import LOWER_IS_BETTER, Undefined
from retino_cli.evaluation.resampling import Interval

DISPLAY_NAMES: Final = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "qwk": "QWK",
    "qwk_rounded": "QWK of the rounded expected grade",
    "macro_f1": "macro F1",
    "macro_auc": "macro AUC",
    "referable_auc": "referable AUC",
    "referable_sensitivity": "referable sensitivity",
    "referable_specificity": "referable specificity",
    "vision_threatening_auc": "vision-threatening AUC",
    "vision_threatening_sensitivity": "vision-threatening sensitivity",
    "vision_threatening_specificity": "vision-threatening specificity",
    "brier": "Brier score",
    "nll": "log-loss",
    "ece": "calibration error",
    "ece_equal_mass": "calibration error (equal-mass bins)",
}
"""How a sentence calls a metric."""


def is_settled(difference: Interval, *, p_value: float | None = None) -> bool:
    """Whether the data tell two models apart on a metric.

    By ``p_value`` where one is given (of a test, adjusted for several comparisons): p <= 1 - level. Else by the
    interval: it does not contain 0.
    """
    if difference.estimate == 0:
        return False
    if p_value is not None:
        # Tolerance: 1 - 0.95 is 0.05000000000000004.
        return p_value <= 1.0 - difference.level + 1e-12
    return difference.low > 0 or difference.high < 0


def is_better(metric: str, difference: float) -> bool:
    """Whether a difference B - A speaks for B."""
    return difference < 0 if metric in LOWER_IS_BETTER else difference > 0


def describe_difference(
    name_a: str,
    name_b: str,
    metric: str,
    difference: Interval | Undefined,
    *,
    p_value: float | None = None,
    p_name: str = "p",
) -> str:
    """One clause on one metric; ``difference`` is B - A.

    "B is better than A on QWK by 0.031 [0.008, 0.055]" where the data tell the two apart (see ``is_settled``), else "on
    accuracy the data cannot tell them apart (difference 0.004 [-0.012, 0.020])". Where lower is better (Brier score,
    log-loss, calibration error) the first form still gives how much better; the second always gives B - A. ``p_value``
    is shown under ``p_name`` ("Holm-adjusted p").
    """
    if isinstance(difference, Undefined):
        return _undefined(metric, difference)
    p_text = "" if p_value is None else f"{p_name} {_p(p_value)}"
    if is_settled(difference, p_value=p_value):
        return f"{_winner(name_a, name_b, metric, difference)} {_gain(metric, difference, p_text)}"
    return f"on {_name(metric)} the data cannot tell them apart {_difference(difference, p_text)}"


def describe_differences(
    name_a: str,
    name_b: str,
    differences: Mapping[str, Interval | Undefined],
    *,
    p_values: Mapping[str, float] | None = None,
    p_name: str = "p",
) -> str:
    """One sentence on several metrics (at least one): what is settled first, then what is not, then what is undefined.

    "B is better than A on QWK by 0.031 [0.008, 0.055] and on referable AUC by 0.010 [0.002, 0.018]; on accuracy
    (difference 0.004 [-0.012, 0.020]) and macro F1 (difference ...) the data cannot tell them apart."
    """
    settled: dict[str, list[str]] = {}
    unsettled: list[tuple[str, str]] = []
    undefined: list[str] = []
    for metric, difference in differences.items():
        p_value = (p_values or {}).get(metric)
        p_text = "" if p_value is None else f"{p_name} {_p(p_value)}"
        if isinstance(difference, Undefined):
            undefined.append(_undefined(metric, difference))
        elif is_settled(difference, p_value=p_value):
            settled.setdefault(_winner(name_a, name_b, metric, difference), []).append(
                _gain(metric, difference, p_text)
            )
        else:
            unsettled.append((_name(metric), _difference(difference, p_text)))
    clauses = [f"{winner} {_listed(gains)}" for winner, gains in settled.items()]
    if len(unsettled) == 1:
        clauses.append(f"on {unsettled[0][0]} the data cannot tell them apart {unsettled[0][1]}")
    elif unsettled:
        listed = _listed([f"{name} {detail}" for name, detail in unsettled])
        clauses.append(f"on {listed} the data cannot tell them apart")
    if not settled and clauses + undefined:
        clauses = [f"Between {name_a} and {name_b}: {(clauses + undefined)[0]}", *(clauses + undefined)[1:]]
        return f"{'; '.join(clauses)}."
    return f"{'; '.join(clauses + undefined)}."


def _name(metric: str) -> str:
    return DISPLAY_NAMES.get(metric, metric)


def _winner(name_a: str, name_b: str, metric: str, difference: Interval) -> str:
    if is_better(metric, difference.estimate):
        return f"{name_b} is better than {name_a}"
    return f"{name_a} is better than {name_b}"


def _gain(metric: str, difference: Interval, p_text: str) -> str:
    """ "on QWK by 0.031 [0.008, 0.055]": how much better the better one is."""
    estimate, low, high = difference.estimate, difference.low, difference.high
    if estimate < 0:
        estimate, low, high = -estimate, -high, -low
    return f"on {_name(metric)} by {_numbers(estimate, low, high)}{f' ({p_text})' if p_text else ''}"


def _difference(difference: Interval, p_text: str) -> str:
    numbers = _numbers(difference.estimate, difference.low, difference.high)
    return f"(difference {numbers}{f', {p_text}' if p_text else ''})"


def _undefined(metric: str, reason: Undefined) -> str:
    return f"on {_name(metric)} they cannot be compared ({reason.reason})"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _numbers(estimate: float, low: float, high: float) -> str:
    """Three decimals; up to six where an end would otherwise be shown as 0 though it is not."""
    digits = 3
    while digits < 6 and any(0 < abs(value) < 0.5 * 10.0**-digits for value in (estimate, low, high)):
        digits += 1
    shown = [f"{value:.{digits}f}" for value in (estimate, low, high)]
    shown = [text.removeprefix("-") if float(text) == 0 else text for text in shown]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.2g}" if value < 0.1 else f"= {value:.2f}"
