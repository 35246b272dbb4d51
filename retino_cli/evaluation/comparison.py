"""What a comparison holds, and how it reads as JSON and Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retino_cli.evaluation.evaluation import Intervals, Metrics, plain_intervals, plain_metrics, plain_reasons
from retino_cli.evaluation.metrics import LOWER_IS_BETTER, METRIC_NAMES, Undefined
from retino_cli.evaluation.pairs import HEADLINE, Pair

OF_THE_DATA = ("majority_accuracy",)
"""Metrics that are the same whoever predicts."""


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """One run (or file) of a comparison. ``label`` is its name, with the id where two share one."""

    run_id: str
    label: str
    params: dict[str, str]
    metrics: Metrics
    intervals: Intervals
    confusion: np.ndarray | None
    collapsed: int | None
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Group:
    """Runs of one configuration: mean and standard deviation (n - 1) of each metric over its ``members`` (places).

    ``deviation`` is None for one run alone; a metric that one of them does not define is left out of both.
    """

    label: str
    members: tuple[int, ...]
    mean: dict[str, float]
    deviation: dict[str, float | None]


@dataclass(frozen=True)
class Disagreement:
    """An image on which the runs differ: its true grade, and what each run says (grade, and expected grade)."""

    image_id: str
    grade: int
    predicted: tuple[int, ...]
    expected: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs that were judged on the same ``n_images`` images of ``split``.

    ``differing`` holds, for each parameter whose values are not all the same, one value per run ("" where not set).
    ``pairs`` compares every two runs or, where they were grouped, every two ``groups``. ``disagreements`` are sorted,
    the widest first.
    """

    run_id: str
    split: str
    n_images: int
    runs: tuple[ComparedRun, ...]
    differing: dict[str, tuple[str, ...]]
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]
    disagreements: tuple[Disagreement, ...]

    @property
    def runs_with_params(self) -> tuple[ComparedRun, ...]:
        """Those that are no files: nothing is known of how a file was made."""
        return tuple(run for run in self.runs if run.params)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdicts."""
        return tuple(pair.sentence for pair in self.pairs)

    @property
    def cautions(self) -> tuple[str, ...]:
        """Where a verdict on groups says better, but their runs scatter too much for it: Welch's t-test over the runs
        has p > 0.05. The verdict's interval is about the images alone."""
        if len(self.groups) < 2:
            return ()
        found = []
        for pair in self.pairs:
            one, other = self.groups[pair.a], self.groups[pair.b]
            for name in HEADLINE:
                if name not in pair.differences or not pair.settled(name):
                    continue
                p_value = _welch(one, other, name)
                if p_value is not None and p_value > 0.05:
                    found.append(
                        f"Other seeds may turn this round: {one.label} and {other.label} have {name} "
                        f"{format_group(one, name)} and {format_group(other, name)} over {len(one.members)} and "
                        f"{len(other.members)} runs (Welch's t-test, p = {p_value:.2f})."
                    )
        return tuple(found)

    def name_group(self, group: Group) -> str:
        """Its label, with how many runs it has, and how many of them have collapsed."""
        collapsed = sum(self.runs[place].collapsed is not None for place in group.members)
        return f"{group.label} (n = {len(group.members)}" + (f", {collapsed} collapsed)" if collapsed else ")")

    def best(self, metric: str) -> tuple[int, ...]:
        """The places of the runs with the best value of ``metric`` (several where they are equal, none where it is the
        same for all, belongs to the data alone, or is defined for fewer than two)."""
        if metric in OF_THE_DATA:
            return ()
        values = [run.metrics[metric] for run in self.runs]
        numbers = [value for value in values if not isinstance(value, Undefined)]
        if len(numbers) < 2 or max(numbers) == min(numbers):
            return ()
        best = min(numbers) if metric in LOWER_IS_BETTER else max(numbers)
        return tuple(place for place, value in enumerate(values) if value == best)

    def told(self, metric: str) -> int | None:
        """The place of the run, or of the group where there are groups, that the data tell is better than every other
        on ``metric``; None where they cannot tell of any."""
        places = {place for pair in self.pairs for place in (pair.a, pair.b)}
        for place in sorted(places):
            own = [pair for pair in self.pairs if place in (pair.a, pair.b)]
            if all(metric in pair.differences and pair.winner(metric) == place for pair in own):
                return place
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; undefined metrics are null."""
        return {
            "run_id": self.run_id,
            "split": self.split,
            "n_images": self.n_images,
            "verdicts": list(self.sentences),
            "cautions": list(self.cautions),
            "differing_params": {name: list(values) for name, values in self.differing.items()},
            "runs": [
                {
                    "run_id": run.run_id,
                    "name": run.label,
                    "metrics": plain_metrics(run.metrics),
                    "intervals": plain_intervals(run.intervals),
                    "undefined": plain_reasons(run.metrics),
                    "collapsed": run.collapsed,
                    "confusion_matrix": None if run.confusion is None else run.confusion.tolist(),
                }
                for run in self.runs
            ],
            "best": {
                name: [self.runs[place].run_id for place in places]
                for name in METRIC_NAMES
                if (places := self.best(name))
            },
            "pairs": [pair.to_dict() for pair in self.pairs],
            "groups": [
                {"label": g.label, "members": list(g.members), "mean": g.mean, "deviation": g.deviation}
                for g in self.groups
            ],
            "n_disagreements": len(self.disagreements),
        }

    def to_markdown(self) -> str:
        """Verdicts and tables in Markdown; bold is what the data tell is better than every other of its row."""
        names = [_plain(run.label) for run in self.runs]
        lines = [f"# Comparison on {self.split}, {self.n_images} images", ""]
        lines += [f"- {sentence}" for sentence in (*self.sentences, *self.cautions)]
        if self.groups:
            lines += ["", "## Groups: mean and standard deviation", ""]
            lines += [
                _row("metric", [_plain(self.name_group(group)) for group in self.groups]),
                _rule(len(self.groups)),
            ]
            for metric in METRIC_NAMES:
                cells = [format_group(group, metric) for group in self.groups]
                lines.append(_row(metric, _embolden(cells, self.told(metric))))
        lines += ["", "## Runs", "", _row("metric", names), _rule(len(names))]
        for metric in METRIC_NAMES:
            cells = [f"{run.metrics[metric]:.4f}" for run in self.runs]
            lines.append(_row(metric, _embolden(cells, None if self.groups else self.told(metric))))
        lines += ["", "## Parameters that differ", "", _row("parameter", names), _rule(len(names))]
        lines += [_row(name, list(values)) for name, values in self.differing.items()]
        return "\n".join(lines) + "\n"


def format_group(group: Group, metric: str) -> str:
    """ "0.571 +- 0.012", "0.571" for one run, "n/a" where it is undefined for one of them."""
    if metric not in group.mean:
        return "n/a"
    deviation = group.deviation[metric]
    return f"{group.mean[metric]:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _welch(one: Group, other: Group, metric: str) -> float | None:
    """p of Welch's t-test (Biometrika 34 (1947) 28-35) over the runs; None with one run, or without any scatter."""
    a, b = one.deviation.get(metric), other.deviation.get(metric)
    if a is None or b is None or a == b == 0:
        return None
    from scipy.stats import ttest_ind_from_stats

    test = ttest_ind_from_stats(
        one.mean[metric], a, len(one.members), other.mean[metric], b, len(other.members), equal_var=False
    )
    return float(test.pvalue)


def _embolden(cells: list[str], place: int | None) -> list[str]:
    return [f"**{cell}**" if k == place else cell for k, cell in enumerate(cells)]


def _plain(label: str) -> str:
    return label.replace("|", "\\|")


def _row(first: str, cells: list[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _rule(n: int) -> str:
    return "|---|" + "---:|" * n
