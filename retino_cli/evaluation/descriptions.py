"""What MLflow shows above a run: its result in Markdown, beside what is reached without looking at a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from retino_cli.data.summary import SplitSummary
from retino_cli.evaluation.comparison import Comparison
from retino_cli.evaluation.evaluation import OF_A_FILE, Evaluation
from retino_cli.evaluation.metrics import Undefined
from retino_cli.evaluation.verdict import DISPLAY_NAMES
from retino_cli.grades import GRADE_NAMES, GRADES

SHOWN: Final = (
    "accuracy", "qwk", "balanced_accuracy", "macro_f1", "macro_auc", "referable_auc", "referable_sensitivity",
    "referable_specificity", "brier", "ece",
)  # fmt: skip
_ONE_GRADE: Final = {"qwk": 0.0, "macro_auc": 0.5, "referable_auc": 0.5}
"""What always saying one grade scores, whichever it is."""


def describe_training(
    evaluations: Mapping[str, Evaluation],
    splits: Mapping[str, SplitSummary],
    *,
    run_id: str,
    best_epoch: int,
    epochs: int,
    planned: int,
    select_by: str,
    leaks: Sequence[str],
) -> str:
    """Of a finished training: its best checkpoint on test (else on validation), what it was chosen by, what to do next.

    ``epochs`` were trained of those ``planned``; ``evaluations`` by split.
    """
    parts = []
    shown = evaluations.get("test", evaluations.get("val"))
    if shown is not None:
        parts = [_headline(shown), *_warnings(shown, leaks), _metrics_table(shown)]
    else:
        parts = ["**Nothing was measured: there are no validation and no test images.**", *_leak_lines(leaks)]
    early = f" (of {planned}: stopped early)" if epochs < planned else ""
    chosen = f"Checkpoint of epoch {best_epoch} of {epochs}{early}"
    if "val" in evaluations:
        validation = evaluations["val"]
        chosen += f", chosen by validation {select_by}"
        if shown is not validation:
            chosen += f": QWK {_value(validation, 'qwk')}, accuracy {_value(validation, 'accuracy')} there"
    counts = ", ".join(f"{split} {summary.n_images:,}" for split, summary in splits.items())
    name = next(iter(splits.values())).name if splits else ""
    parts.append(f"{chosen}. Images of {_plain(name)}: {counts}.")
    if shown is not None and shown.confusion is not None:
        parts.append(_matrix_table(shown.confusion))
    short = run_id[:8]
    parts.append(_next_steps(f"retino eval {short}", f"retino compare {short} RUN", f"retino confusion {short}"))
    return _join(parts)


def describe_evaluation(evaluation: Evaluation) -> str:
    """Of an evaluation of a run or of a file of predictions."""
    parts = [_headline(evaluation), *_warnings(evaluation, ()), _metrics_table(evaluation)]
    point, table = evaluation.point, evaluation.operating
    if point is not None and table is not None:
        names = {"ppv": "PPV", "npv": "NPV", "referral_rate": "referral rate"}
        values = ", ".join(f"{names.get(name, name)} {value:.3f}" for name, value in table.values.items())
        parts.append(
            f"Operating point: referable where score >= {table.threshold:.4f} ({point.criterion} {point.wanted:g} on "
            f"validation), at a prevalence of {table.prevalence:.1%}: {values}."
        )
    if evaluation.confusion is not None:
        parts.append(_matrix_table(evaluation.confusion))
    short = evaluation.evaluation_run_id[:8]
    parts.append(_next_steps(f"retino compare {short} RUN", f"retino confusion {short}"))
    return _join(parts)


def describe_comparison(comparison: Comparison) -> str:
    """Of a comparison: its verdicts, and the table in which a value is bold only where the data can tell."""
    verdicts = "\n".join(f"- **{_plain(sentence)}**" for sentence in comparison.sentences)
    cautions = "\n".join(f"- {_plain(caution)}" for caution in comparison.cautions)
    collapsed = [
        f"- **COLLAPSED:** {_plain(run.label)} says (almost) only grade {run.collapsed}; its accuracy means nothing."
        for run in comparison.runs
        if run.collapsed is not None
    ]
    parts = [verdicts, cautions, "\n".join(collapsed)]
    labels = [_plain(run.label) for run in comparison.runs]
    rows = [_row(f"{comparison.split}, {comparison.n_images} images", labels), _rule(len(labels))]
    rows.append(_row("accuracy: majority", [f"{run.metrics['majority_accuracy']:.3f}" for run in comparison.runs]))
    for name in SHOWN:
        told = None if comparison.groups else comparison.told(name)
        cells = [f"{run.metrics[name]:.3f}" for run in comparison.runs]
        rows.append(_row(DISPLAY_NAMES[name], [f"**{c}**" if i == told else c for i, c in enumerate(cells)]))
    parts.append("\n".join(rows))
    if not comparison.groups:
        parts.append("Bold: better than every other, as far as the data can tell.")
    parts.append("Pictures, and the images on which they disagree: artifacts, `comparison/`.")
    return _join(parts)


def _headline(evaluation: Evaluation) -> str:
    metrics = evaluation.metrics
    place = _plain(evaluation.data if evaluation.split == OF_A_FILE else f"{evaluation.data}, {evaluation.split}")
    facts = []
    if not isinstance(metrics["qwk"], Undefined):
        facts.append(f"QWK {_value(evaluation, 'qwk')}")
    elif not isinstance(metrics["referable_auc"], Undefined):
        facts.append(f"referable AUC {_value(evaluation, 'referable_auc')}")
    if not isinstance(metrics["accuracy"], Undefined):
        baselines = f"always saying the most frequent grade {metrics['majority_accuracy']:.3f}"
        if "fellow_eye_accuracy" in evaluation.baselines:
            baselines += f", copying the other eye's grade {evaluation.baselines['fellow_eye_accuracy']:.3f}"
        facts.append(f"accuracy {_value(evaluation, 'accuracy')} ({baselines})")
    return f"**{place} ({evaluation.n_images:,} images): {'; '.join(facts) or 'no metric is defined'}.**"


def _value(evaluation: Evaluation, name: str) -> str:
    """ "0.612 [0.523, 0.701]"."""
    value, interval = evaluation.metrics[name], evaluation.intervals.get(name)
    if interval is None or isinstance(interval, Undefined):
        return f"{value:.3f}"
    return f"{value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _warnings(evaluation: Evaluation, leaks: Sequence[str]) -> list[str]:
    return [*([f"**{_plain(evaluation.warning)}**"] if evaluation.warning else []), *_leak_lines(leaks)]


def _leak_lines(leaks: Sequence[str]) -> list[str]:
    if not leaks:
        return []
    return ["\n".join(f"- **LEAK:** {_plain(sentence)}" for sentence in leaks)]


def _metrics_table(evaluation: Evaluation) -> str:
    eyes = evaluation.baselines
    columns = ["value", "95 % interval", "one grade for all", *(["other eye's grade"] if eyes else [])]
    rows = [_row("metric", columns), _rule(len(columns))]
    for name in SHOWN:
        value, interval = evaluation.metrics[name], evaluation.intervals.get(name)
        if isinstance(value, Undefined):
            continue
        ends = (
            "" if interval is None or isinstance(interval, Undefined) else f"{interval.low:.3f} .. {interval.high:.3f}"
        )
        constant = _score_constant(evaluation, name)
        cells = [f"{value:.3f}", ends, "" if constant is None else f"{constant:.3f}"]
        if eyes:
            copied = eyes.get(f"fellow_eye_{name}")
            cells.append("" if copied is None else f"{copied:.3f}")
        rows.append(_row(DISPLAY_NAMES[name], cells))
    return "\n".join(rows)


def _score_constant(evaluation: Evaluation, metric: str) -> float | Undefined | None:
    """What always saying one grade scores, for accuracy the most frequent one; None where it depends on the grade."""
    if metric == "accuracy":
        return evaluation.metrics["majority_accuracy"]
    if metric == "balanced_accuracy" and evaluation.confusion is not None:
        return 1 / int((evaluation.confusion.sum(axis=1) > 0).sum())
    return _ONE_GRADE.get(metric)


def _matrix_table(matrix: np.ndarray) -> str:
    """(5, 5) counts, rows true grade; the right ones are bold."""
    rows = [_row("true \\\\ predicted", [*map(str, GRADES), "images"]), _rule(6)]
    for true in GRADES:
        cells = [f"**{matrix[true, k]}**" if k == true else str(matrix[true, k]) for k in GRADES]
        rows.append(_row(f"{true} {GRADE_NAMES[true]}", [*cells, str(int(matrix[true].sum()))]))
    return "\n".join(rows)


def _next_steps(*commands: str) -> str:
    return "Next: " + ", ".join(f"`{command}`" for command in commands) + "."


def _join(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """Names may hold what Markdown would take for markup."""
    for sign in ("\\", "`", "*", "_", "[", "]", "<", ">", "|", "#"):
        text = text.replace(sign, f"\\{sign}")
    return text


def _row(first: str, cells: Sequence[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _rule(n: int) -> str:
    return "|---|" + "---:|" * n
