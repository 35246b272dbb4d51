"""The course lab's whole report in one call: four trainings, two comparison figures, four confusion matrices, one
table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retino_cli.config import TrainConfig
from retino_cli.errors import DataError, UsageError, WeightsError

if TYPE_CHECKING:
    from retino_cli.tracking import RunRecord, Store
    from retino_cli.training.events import Listener

ARCHITECTURES: Final = ("resnet18", "resnet50")
PRETRAINED, SCRATCH = "pretrained", "scratch"


@dataclass(frozen=True, eq=False)
class LabRow:
    """One of the four models. Accuracies are the highest over the epochs, as the lab's report gives them;
    ``chosen_accuracy`` and ``chosen_qwk`` belong to the checkpoint that validation chose."""

    run_id: str
    run_name: str
    arch: str
    start: str
    train_accuracy: float
    test_accuracy: float | None
    chosen_accuracy: float | None
    chosen_qwk: float | None
    collapsed: int | None
    trained_now: bool


@dataclass(frozen=True, eq=False)
class LabReport:
    """What the lab's report shows. ``split`` is the one that was judged: test, or val where the data has no test.

    ``majority_accuracy`` and ``fellow_eye_accuracy`` read no pixel; the second is None where patients are not known.
    """

    run_id: str
    split: str
    rows: tuple[LabRow, ...]
    majority_accuracy: float
    fellow_eye_accuracy: float | None
    fellow_eye_qwk: float | None
    files: tuple[str, ...]
    store: str
    ui_command: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**self.__dict__, "rows": [row.__dict__ for row in self.rows], "files": list(self.files)}

    def to_markdown(self) -> str:
        """The table of highest accuracies, with the baselines in it."""

        def cell(value: float | None) -> str:
            return "n/a" if value is None else f"{value:.4f}"

        lines = [
            f"| model | start | highest train accuracy | highest {self.split} accuracy | chosen checkpoint: accuracy "
            "| QWK |",
            "|---|---|---:|---:|---:|---:|",
        ]
        for row in self.rows:
            numbers = (row.train_accuracy, row.test_accuracy, row.chosen_accuracy, row.chosen_qwk)
            name = row.arch + (f" (collapsed: grade {row.collapsed})" if row.collapsed is not None else "")
            lines.append(f"| {name} | {row.start} | " + " | ".join(map(cell, numbers)) + " |")
        lines.append(f"| majority grade, no pixel read | | | | {cell(self.majority_accuracy)} | {cell(0.0)} |")
        if self.fellow_eye_accuracy is not None:
            lines.append(
                f"| fellow eye's grade, no pixel read | | | | {cell(self.fellow_eye_accuracy)} | "
                f"{cell(self.fellow_eye_qwk)} |"
            )
        return "\n".join(lines) + "\n"

    def to_description(self) -> str:
        """What MLflow shows above the run: one sentence, those that collapsed, the table, what to do next."""
        judged = [row for row in self.rows if row.chosen_qwk is not None]
        best = max(judged, key=lambda row: float(row.chosen_qwk or 0.0), default=None)
        found = "no QWK" if best is None else f"highest QWK {best.chosen_qwk:.3f} ({best.arch}, {best.start})"
        parts = [
            f"**{self.split}: {found}; always saying the most frequent grade is right in "
            f"{self.majority_accuracy:.1%} of the images.**"
        ]
        parts += [
            f"- **COLLAPSED:** {row.arch}, {row.start} says (almost) only grade {row.collapsed}; its accuracy means "
            "nothing."
            for row in self.rows
            if row.collapsed is not None
        ]
        parts.append(self.to_markdown().rstrip())
        parts.append(
            f"Whether the data can tell them apart: `retino compare {' '.join(r.run_id[:8] for r in self.rows)}`."
        )
        return "\n\n".join(parts) + "\n"


def run_lab(
    config: TrainConfig,
    *,
    weights: Mapping[str, Path] | None = None,
    scratch_only: bool = False,
    listen: Listener | None = None,
) -> LabReport:
    """Train ResNet18 and ResNet50 with and without ImageNet weights by the lab recipe, and write the report's figures.

    ``config`` gives data, epochs, seed and the like; its arch, recipe and first weights are set here. ``weights``
    names a file for an architecture in place of torchvision's ImageNet weights; ``scratch_only`` leaves the pretrained
    two out. The four are child runs of one parent. A finished child of an equal earlier call is not trained again, an
    interrupted one goes on.

    Raises :class:`~retino_cli.errors.WeightsError` before any training where ImageNet weights cannot be had.
    """
    from retino_cli.data.configured import read_manifest
    from retino_cli.data.summary import summarise_splits
    from retino_cli.tracking import open_store
    from retino_cli.tracking.datasets import CONTEXTS
    from retino_cli.training.events import Note, ignore
    from retino_cli.training.train import train

    listen = listen or ignore
    files = dict(weights or {})
    unknown = sorted(set(files) - set(ARCHITECTURES))
    if unknown:
        raise UsageError(f"The lab has no architecture {unknown[0]}.", f"It has: {', '.join(ARCHITECTURES)}.")
    starts = (SCRATCH,) if scratch_only else (PRETRAINED, SCRATCH)
    if not scratch_only:
        _check_weights(files)
    manifest = read_manifest(config)
    if not manifest.table["split"].isin(["val", "test"]).any():
        raise DataError(
            f"{manifest.root} has no test images, and none are kept for validation: there is nothing to judge by.",
            "Let some be kept, with --val-fraction 0.1",
        )
    store = open_store(config.tracking_uri)
    key = _key(config, files, manifest.fingerprint())
    parent_record = next(
        (
            record
            for record in store.latest(1000, experiment=config.experiment, kinds=("lab",))
            if record.tags.get("retino.lab_key") == key
        ),
        None,
    )
    if parent_record is not None:
        parent = store.resume_run(parent_record.run_id)
    else:
        parent = store.start_run(
            experiment=config.experiment,
            name=config.run_name or f"lab-{manifest.name}",
            kind="lab",
            params={"data": str(config.data), "epochs": config.epochs or 10, "seed": config.seed},
            tags={
                "retino.lab_key": key,
                "retino.data": manifest.name,
                "retino.data_fingerprint": manifest.fingerprint(),
            },
        )
    with parent:
        parent.log_inputs((summary, CONTEXTS[name]) for name, summary in summarise_splits(manifest).items())
        trained_now = set()
        for arch in ARCHITECTURES:
            for start in starts:
                variant = f"{arch}-{start}"
                child = _find_child(store, parent.run_id, variant)
                if child is not None and child.status == "FINISHED":
                    listen(Note(f"{variant}: finished earlier (run {child.run_id[:8]}), not trained again."))
                    continue
                listen(Note(f"{variant}: training."))
                own = replace(
                    config,
                    arch=arch,
                    recipe="lab",
                    pretrained=start == PRETRAINED and arch not in files,
                    weights=files.get(arch) if start == PRETRAINED else None,
                    init=None,
                    run_name=f"lab-{variant}",
                )
                train(
                    own,
                    resume=None if child is None else child.run_id,
                    parent=parent.run_id,
                    tags={"retino.lab_variant": variant},
                    listen=listen,
                )
                trained_now.add(variant)
        report = _report(store, parent.run_id, starts, trained_now)
        parent.write_folder("report", lambda folder: _write_report(store, report, folder))
        parent.describe(report.to_description())
    return report


def _check_weights(files: Mapping[str, Path]) -> None:
    """Load every file that will be needed once, so that a missing one is found before hours of training."""
    from retino_cli.models.factory import build_model
    from retino_cli.models.weights import load_file, load_imagenet

    for arch in ARCHITECTURES:
        model = build_model(arch, head="lab")
        if arch in files:
            load_file(model, files[arch])
            continue
        try:
            load_imagenet(model, arch)
        except WeightsError as error:
            raise WeightsError(
                f"The lab's pretrained half needs ImageNet weights for {arch}. {error.message}",
                f"{error.hint} Or name files: retino lab --weights-resnet18 FILE --weights-resnet50 FILE; "
                "or train the other half alone: retino lab --scratch-only".strip(),
            ) from error


def _key(config: TrainConfig, files: Mapping[str, Path], fingerprint: str) -> str:
    """What makes two calls the same lab: the data and everything that changes a result, not where things lie."""
    fields = config.to_dict()
    for name in ("data", "workers", "tracking_uri", "experiment", "run_name", "arch", "device", "weights", "init"):
        fields.pop(name)
    digests = {arch: hashlib.sha256(path.read_bytes()).hexdigest() for arch, path in sorted(files.items())}
    text = json.dumps([fields, digests, fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _find_child(store: Store, parent: str, variant: str) -> RunRecord | None:
    for record in store.latest(100, kinds=("train",), parent=parent):
        if record.tags.get("retino.lab_variant") == variant:
            return record
    return None


def _report(store: Store, parent: str, starts: tuple[str, ...], trained_now: set[str]) -> LabReport:
    rows: list[LabRow] = []
    splits: list[str] = []
    baselines: dict[str, float] = {}
    for arch in ARCHITECTURES:
        for start in starts:
            record = _find_child(store, parent, f"{arch}-{start}")
            if record is None:
                continue
            history = store.history(record.run_id)
            split = "test" if "test/accuracy" in record.metrics else "val_best"
            by_epoch = "epoch_test/accuracy" if split == "test" else "val/accuracy"
            splits.append("test" if split == "test" else "val")
            for name in ("majority_accuracy", "fellow_eye_accuracy", "fellow_eye_qwk"):
                if f"{split}/{name}" in record.metrics:
                    baselines[name] = record.metrics[f"{split}/{name}"]
            tag = record.tags.get("retino.collapsed", "no")
            rows.append(
                LabRow(
                    run_id=record.run_id,
                    run_name=record.name,
                    arch=arch,
                    start=start,
                    train_accuracy=max(row["train/accuracy"] for row in history),
                    test_accuracy=max((row[by_epoch] for row in history if by_epoch in row), default=None),
                    chosen_accuracy=record.metrics.get(f"{split}/accuracy"),
                    chosen_qwk=record.metrics.get(f"{split}/qwk"),
                    collapsed=int(tag.removeprefix("grade ")) if tag.startswith("grade ") else None,
                    trained_now=f"{arch}-{start}" in trained_now,
                )
            )
    names = [f"{arch}_accuracy_by_epoch" for arch in ARCHITECTURES] + ["confusion_matrices", "highest_accuracies"]
    return LabReport(
        run_id=parent,
        split=splits[0],
        rows=tuple(rows),
        majority_accuracy=baselines["majority_accuracy"],
        fellow_eye_accuracy=baselines.get("fellow_eye_accuracy"),
        fellow_eye_qwk=baselines.get("fellow_eye_qwk"),
        files=tuple(f"report/{name}" for name in names),
        store=store.where(),
        ui_command=store.ui_command(),
    )


def _write_report(store: Store, report: LabReport, folder: Path) -> None:
    """The two comparison figures, the confusion matrices of all models, and the table."""
    from retino_cli.evaluation.metrics import confusion_matrix
    from retino_cli.evaluation.predictions import read_predictions
    from retino_cli.figures import style
    from retino_cli.figures.confusion import draw_confusion
    from retino_cli.figures.curves import draw_comparison

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "highest_accuracies.md").write_text(report.to_markdown(), encoding="utf-8")
    (folder / "lab.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    for arch in ARCHITECTURES:
        runs = [(f"{row.arch}, {row.start}", store.history(row.run_id)) for row in report.rows if row.arch == arch]
        figure = draw_comparison(runs, majority=report.majority_accuracy, title=arch)
        style.save(figure, folder / f"{arch}_accuracy_by_epoch")
    matrices: list[tuple[str, Any]] = []
    for row in report.rows:
        predictions = read_predictions(store.download(row.run_id, f"{report.split}/predictions.csv"))
        matrices.append((f"{row.arch}, {row.start}", confusion_matrix(predictions.grade, predictions.predicted)))
    style.save(draw_confusion(matrices), folder / "confusion_matrices")
    style.save(draw_confusion(matrices, normalise=True), folder / "confusion_matrices_normalised")
