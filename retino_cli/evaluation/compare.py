"""``compare(runs)``: what differs between runs on the same images, and whether the data can tell."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retino_cli.errors import UsageError
from retino_cli.evaluation.artifacts import draw_matrices
from retino_cli.evaluation.bootstrap import resample
from retino_cli.evaluation.comparison import ComparedRun, Comparison, Disagreement, Group
from retino_cli.evaluation.descriptions import describe_comparison
from retino_cli.evaluation.differences import draw_differences
from retino_cli.evaluation.evaluation import OF_A_FILE
from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.metrics import METRIC_NAMES, Undefined, confusion_matrix, is_collapsed, summarise
from retino_cli.evaluation.pairs import compare_groups, compare_pairs
from retino_cli.evaluation.resampling import N_RESAMPLES
from retino_cli.evaluation.stored import (
    StoredPredictions,
    label_stored,
    read_history,
    read_params,
    read_stored,
    refuse_unlike,
)
from retino_cli.figures import style
from retino_cli.figures.curves import draw_comparison
from retino_cli.report.page import check_place, write_page
from retino_cli.tracking import open_store
from retino_cli.training.events import Listener, ignore

NOT_COMPARED = ("data", "workers", "run_name", "device")
"""Parameters that say where a run was made, not what it is."""
CONFIGURATION = "config"
"""``group_by`` value for "all parameters but the seed"."""


def compare(
    runs: Sequence[str],
    *,
    split: str | None = None,
    group_by: str | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    experiment: str | None = None,
    html: Path | None = None,
    images: bool = True,
    tracking_uri: str | None = None,
    listen: Listener = ignore,
) -> Comparison:
    """Compare two or more runs, or files of predictions, on the same images; nothing is predicted again.

    ``runs`` are trainings or evaluations (by id, unique prefix, name or ``latest``) or files (.csv, .tsv, .parquet).
    ``split``: of the runs; by default test, where all have it. Differences are paired by image, with intervals by
    ``n_resamples`` bootstrap resamples of patients (of images where patients are unknown); McNemar's and DeLong's tests
    beside them; over more than two runs p-values are adjusted by Holm. ``group_by`` names parameters, with commas,
    whose equal values make a group of runs, or is ``config``: all but the seed; a file is a group of its own. A run of
    kind ``repeats`` stands for its trainings, which are one group where ``group_by`` says nothing else. It is all
    stored as a run of kind ``compare``. ``html``: also write a page about it to this file, and into that run;
    ``images`` False leaves photographs out of it.

    Raises UsageError for fewer than two runs, for one given twice, for an unknown parameter, for runs judged on other
    images or grades, and where ``html`` is a folder or a file of somebody else's.
    """
    if html is not None:
        check_place(html)
    store = open_store(tracking_uri)
    stored = read_stored(store, list(runs), split=split)
    if len(stored) < 2:
        raise UsageError("A comparison needs two runs or more.", "List the latest ones with: retino runs")
    refuse_unlike(stored)
    judged = [one.predictions for one in stored]
    labels = label_stored(stored)
    params = [read_params(store, one) for one in stored]
    groups = _group(labels, params, stored, group_by) if group_by else _group_repeats(labels, stored)
    split = next((one.split for one in stored if one.split != OF_A_FILE), OF_A_FILE)
    drawn = resample(judged, n_resamples=n_resamples, seed=seed)
    compared = tuple(
        ComparedRun(
            run_id=one.source,
            label=label,
            params=own,
            metrics=summarise(one.predictions),
            intervals=drawn.intervals(place),
            confusion=_confusion(one.predictions),
            collapsed=None if _confusion(one.predictions) is None else is_collapsed(one.predictions),
            history=read_history(store, one),
        )
        for place, (one, label, own) in enumerate(zip(stored, labels, params, strict=True))
    )
    pairs = (
        compare_groups(drawn, [group.members for group in groups], [group.label for group in groups])
        if len(groups) > 1
        else compare_pairs(judged, drawn, labels)
    )
    sources = ",".join(one.source for one in stored)
    first = next((one.record for one in stored if one.record is not None), None)
    active = store.start_run(
        experiment=experiment or (first.experiment if first is not None else "retino"),
        name="compare " + " ".join(labels),
        kind="compare",
        params={"runs": sources, "split": split},
        tags={"retino.compared_runs": sources},
    )
    with active:
        comparison = Comparison(
            run_id=active.run_id,
            split=split,
            n_images=len(judged[0].image_id),
            runs=compared,
            differing=_differing(params),
            pairs=pairs,
            groups=groups,
            disagreements=_disagreements(judged),
        )
        active.describe(describe_comparison(comparison))
        majority = _majority(stored)
        active.write_folder("comparison", lambda folder: write_comparison(comparison, folder, majority=majority))
        if html is not None:
            from retino_cli.report.comparison_page import make_comparison_page  # with torch: only where it is needed

            page = make_comparison_page(comparison, stored, store, images=images, listen=listen)
            write_page(page, html)
            active.write_folder("comparison", lambda folder: write_page(page, folder / "comparison.html"))
        active.log_metrics(
            {
                f"{name}/{place}_{_safe(run.label)}": value
                for place, run in enumerate(compared)
                for name, value in run.metrics.items()
                if not isinstance(value, Undefined)
            }
        )
    return comparison


def write_comparison(comparison: Comparison, folder: Path, *, majority: float | None = None) -> None:
    """comparison.json, comparison.md, disagreements.csv; as figures the differences (forest plot), accuracy by epoch,
    and the confusion matrices.

    ``majority``: the majority baseline of the split whose accuracy by epoch is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(comparison.to_dict(), indent=2) + "\n", encoding="utf-8")
    (folder / "comparison.md").write_text(comparison.to_markdown(), encoding="utf-8")
    labels = [run.label for run in comparison.runs]
    with (folder / "disagreements.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image_id", "grade", *labels, *(f"{label}, expected grade" for label in labels)])
        for one in comparison.disagreements:
            writer.writerow([one.image_id, one.grade, *one.predicted, *one.expected])
    forest = draw_differences(comparison)
    if forest is not None:
        style.save(forest, folder / "differences")
    if all(run.history for run in comparison.runs):
        figure = draw_comparison([(run.label, run.history) for run in comparison.runs], majority=majority)
        style.save(figure, folder / "accuracy_by_epoch")
    matrices = [(run.label, run.confusion) for run in comparison.runs if run.confusion is not None]
    if matrices:
        draw_matrices(matrices, folder, "confusion_matrices")


def _confusion(judged: Judged) -> np.ndarray | None:
    if judged.predicted is None or judged.binary:
        return None
    return confusion_matrix(judged.grade, judged.predicted)


def _majority(stored: Sequence[StoredPredictions]) -> float | None:
    """The majority baseline of the split that the figure draws: test where all have it by epoch, else validation."""
    records = [one.record for one in stored if one.record is not None]
    if not records:
        return None
    tested = all("epoch_test/accuracy" in record.metrics for record in records)
    values = {
        record.metrics.get("test/majority_accuracy" if tested else "val_best/majority_accuracy") for record in records
    }
    return values.pop() if len(values) == 1 else None


def _differing(params: Sequence[dict[str, str]]) -> dict[str, tuple[str, ...]]:
    """Those that are not the same in all runs; files have none, and do not make them differ."""
    names = sorted({name for one in params for name in one} - set(NOT_COMPARED))
    rows = {name: tuple(one.get(name, "") for one in params) for name in names}
    runs = [place for place, one in enumerate(params) if one]
    return {name: values for name, values in rows.items() if len({values[place] for place in runs}) > 1}


def _group(
    labels: Sequence[str], params: Sequence[dict[str, str]], stored: Sequence[StoredPredictions], group_by: str
) -> tuple[Group, ...]:
    """Groups in the order of their first run. Nothing is known of a file that would put it into one with others."""
    if all(one.split == OF_A_FILE for one in stored):
        raise UsageError("--group-by: files of predictions have no parameters to group by.", "Leave it out.")
    differing = _differing(params)
    if group_by == CONFIGURATION:
        names = [name for name in differing if name != "seed"]
    else:
        names = [name.strip() for name in group_by.split(",") if name.strip()]
        known = {name for one in params for name in one}
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise UsageError(
                f"--group-by {group_by}: the runs have no parameter {', '.join(unknown) or '(none named)'}.",
                f"Those that differ: {', '.join(differing) or 'none'}; or 'config' for all but the seed.",
            )
    members: dict[tuple[str, ...], list[int]] = {}
    for place, (one, own) in enumerate(zip(stored, params, strict=True)):
        key = ("file", labels[place]) if one.split == OF_A_FILE else ("run", *(own.get(name, "") for name in names))
        members.setdefault(key, []).append(place)
    found: list[tuple[str, Sequence[int]]] = []
    for (kind, *values), places in members.items():
        named = zip(names, values, strict=True) if kind == "run" else ()
        label = ", ".join(f"{name} {value or '-'}" for name, value in named)
        found.append((label or labels[places[0]], places))
    return _summarise_groups(found, stored)


def _group_repeats(labels: Sequence[str], stored: Sequence[StoredPredictions]) -> tuple[Group, ...]:
    """The trainings of each repeats as one group, every other run and file as one of its own; none without repeats."""
    if all(one.repeats is None for one in stored):
        return ()
    members: dict[str, list[int]] = {}
    for place, one in enumerate(stored):
        members.setdefault(one.source if one.repeats is None else one.repeats.run_id, []).append(place)
    firsts = [stored[places[0]] for places in members.values()]
    names = [one.name if one.repeats is None else one.repeats.name for one in firsts]
    found = []
    for one, name, (source, places) in zip(firsts, names, members.items(), strict=True):
        label = labels[places[0]] if one.repeats is None else name
        found.append((f"{name} ({source[:8]})" if one.repeats and names.count(name) > 1 else label, places))
    return _summarise_groups(found, stored)


def _summarise_groups(
    members: Sequence[tuple[str, Sequence[int]]], stored: Sequence[StoredPredictions]
) -> tuple[Group, ...]:
    """Mean and standard deviation (n - 1) of each metric over the members (places) of each group."""
    metrics = [summarise(one.predictions) for one in stored]
    found = []
    for label, places in members:
        mean: dict[str, float] = {}
        deviation: dict[str, float | None] = {}
        for metric in METRIC_NAMES:
            all_values = [metrics[place][metric] for place in places]
            numbers = [value for value in all_values if not isinstance(value, Undefined)]
            if len(numbers) == len(places):
                mean[metric] = float(np.mean(numbers))
                deviation[metric] = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else None
        found.append(Group(label, tuple(places), mean, deviation))
    return tuple(found)


def _disagreements(judged: Sequence[Judged]) -> tuple[Disagreement, ...]:
    """Images with different predicted grades: widest range of grades first, then of expected grades, then by id."""
    orders = [np.argsort(one.image_id, kind="stable") for one in judged]
    graded = [one.predicted for one in judged]
    if any(one is None for one in graded) or any(one.binary for one in judged):
        return ()
    predicted = np.stack([np.asarray(one)[order] for one, order in zip(graded, orders, strict=True)])  # (M, N)
    expected = np.stack(
        [
            np.asarray(one.predicted if one.expected_grade is None else one.expected_grade, dtype=np.float64)[order]
            for one, order in zip(judged, orders, strict=True)
        ]
    )  # (M, N)
    ids, grade = judged[0].image_id[orders[0]], judged[0].grade[orders[0]]
    width, spread = np.ptp(predicted, axis=0), np.ptp(expected, axis=0)
    rows = np.lexsort((ids, -spread, -width))
    return tuple(
        Disagreement(
            image_id=str(ids[row]),
            grade=int(grade[row]),
            predicted=tuple(predicted[:, row].tolist()),
            expected=tuple(np.round(expected[:, row], 4).tolist()),
        )
        for row in rows[width[rows] > 0]
    )


def _safe(text: str) -> str:
    """A name that MLflow takes in a metric."""
    return "".join(c if c.isalnum() or c in "_-. " else "_" for c in text)
