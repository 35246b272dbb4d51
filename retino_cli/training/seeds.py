"""What trainings that differ in the seed alone come to: a row for each, mean and standard deviation."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Final

COLUMNS: Final = (
    ("accuracy", "accuracy"),
    ("qwk", "QWK"),
    ("macro_auc", "macro AUC"),
    ("referable_auc", "referable AUC"),
)
"""Metrics of the table, and how they are called in it; ``mean`` and ``deviation`` hold all of them."""


@dataclass(frozen=True)
class SeedRow:
    """One of the trainings. ``metrics`` by name, undefined ones left out; ``seconds`` of wall time, None for one that
    was resumed, whose pause nobody knows; ``collapsed``: the grade that it says (almost) always."""

    seed: int
    run_id: str
    run_name: str
    best_epoch: int
    metrics: dict[str, float]
    seconds: float | None
    collapsed: int | None
    trained_now: bool


@dataclass(frozen=True)
class EnsembleRow:
    """All seeds together, their probabilities averaged. ``run_id``: of the evaluation, a run of kind ``eval``."""

    run_id: str
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class RepeatsResult:
    """Trainings that differ in the seed alone, judged on the same images of ``split`` (test, or val where there is no
    test).

    ``mean`` and ``deviation`` (with n - 1) of every metric that all of them define. They say what chance in training
    does (first weights, order, augmentation, dropout), and nothing of how much the images matter. ``ensemble``: what
    the seeds score together, which is no mean of their scores.
    """

    run_id: str
    run_name: str
    experiment: str
    split: str
    rows: tuple[SeedRow, ...]
    ensemble: EnsembleRow
    store: str
    ui_command: str

    @property
    def mean(self) -> dict[str, float]:
        """By metric."""
        return {name: fmean(values) for name, values in self._values().items()}

    @property
    def deviation(self) -> dict[str, float]:
        """By metric, with n - 1."""
        return {name: stdev(values) for name, values in self._values().items() if len(values) > 1}

    @property
    def mean_epoch(self) -> float:
        """Of the best epochs."""
        return fmean(row.best_epoch for row in self.rows)

    @property
    def mean_seconds(self) -> float | None:
        """None where one of them was resumed."""
        seconds = [row.seconds for row in self.rows if row.seconds is not None]
        return fmean(seconds) if len(seconds) == len(self.rows) else None

    @property
    def collapsed(self) -> tuple[SeedRow, ...]:
        """Those that say (almost) one grade only."""
        return tuple(row for row in self.rows if row.collapsed is not None)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "run_id": self.run_id,
            "run_name": self.run_name,
            "experiment": self.experiment,
            "split": self.split,
            "seeds": [row.seed for row in self.rows],
            "mean": self.mean,
            "deviation": self.deviation,
            "ensemble": self.ensemble.__dict__,
            "runs": [row.__dict__ for row in self.rows],
            "store": self.store,
        }

    def to_markdown(self) -> str:
        """One row per seed, mean and standard deviation, all together, and the baselines that read no pixel."""
        mean, deviation = self.mean, self.deviation
        lines = [
            f"# {self.run_name}: {len(self.rows)} seeds on {self.split}",
            "",
            f"| seed | run | best epoch | {' | '.join(label for _name, label in COLUMNS)} | seconds |",
            "|---:|---|---:|" + "---:|" * (len(COLUMNS) + 1),
        ]
        for row in self.rows:
            note = "" if row.collapsed is None else f" (collapsed: grade {row.collapsed})"
            lines.append(
                f"| {row.seed} | {row.run_id[:8]}{note} | {row.best_epoch} | {_cells(row.metrics)} | "
                f"{format_seconds(row.seconds)} |"
            )
        lines.append(f"| mean | | {self.mean_epoch:.1f} | {_cells(mean)} | {format_seconds(self.mean_seconds)} |")
        lines.append(f"| standard deviation | | | {_cells(deviation)} | |")
        together = self.ensemble
        lines.append(f"| ensemble | {together.run_id[:8]} | | {_cells(together.metrics)} | |")
        for label, accuracy, qwk in self.baselines():
            lines.append(f"| {label}, no pixel read | | | {accuracy:.4f} | {qwk:.4f} | | | |")
        return "\n".join(lines) + "\n"

    def to_description(self) -> str:
        """What MLflow shows above the run: one sentence, those that collapsed, the table, what to do next."""
        mean, deviation = self.mean, self.deviation
        facts = [
            f"{label} {mean[name]:.3f}" + (f" ± {deviation[name]:.3f}" if name in deviation else "")
            for name, label in (("qwk", "QWK"), ("accuracy", "accuracy"))
            if name in mean
        ]
        parts = [
            f"**{self.split}, {len(self.rows)} seeds: {', '.join(facts)} (always saying the most frequent grade: "
            f"accuracy {mean['majority_accuracy']:.3f}).** The deviation is what chance in training does."
        ]
        parts += [
            f"- **COLLAPSED:** seed {row.seed} says (almost) only grade {row.collapsed}; its accuracy means nothing."
            for row in self.collapsed
        ]
        short = self.run_id[:8]
        parts.append(self.to_markdown().partition("\n\n")[2].rstrip())
        parts.append("Ensemble: the mean of all seeds' probabilities, a grader of its own.")
        commands = (f"compare {short} RUN", f"confusion {short}", f"predict {short} IMAGES")
        parts.append(f"Next: {', '.join(f'`retino {command}`' for command in commands)}.")
        return "\n\n".join(parts) + "\n"

    def baselines(self) -> list[tuple[str, float, float]]:
        """Name, accuracy and QWK of the baselines: the majority grade's, and the fellow eye's where train holds it."""
        mean = self.mean
        found = [("majority grade", mean["majority_accuracy"], 0.0)]
        if "fellow_eye_accuracy" in mean and "fellow_eye_qwk" in mean:
            found.append(("fellow eye's grade", mean["fellow_eye_accuracy"], mean["fellow_eye_qwk"]))
        return found

    def _values(self) -> dict[str, list[float]]:
        """The values of each metric that all trainings define, by seed."""
        first, *others = (row.metrics for row in self.rows)
        return {
            name: [first[name], *(metrics[name] for metrics in others)]
            for name in first
            if all(name in metrics for metrics in others)
        }


def format_seconds(seconds: float | None) -> str:
    """Whole seconds, or n/a."""
    return "n/a" if seconds is None else f"{seconds:.0f}"


def _cells(values: dict[str, float]) -> str:
    return " | ".join(f"{values[name]:.4f}" if name in values else "n/a" for name, _label in COLUMNS)
