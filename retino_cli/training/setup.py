"""From a configuration to what a training starts with: data, preprocessing, first weights, and what the run records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from retino_cli.config import TrainConfig, is_timm
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import Manifest
from retino_cli.data.pictures import picture_size
from retino_cli.data.prepared import prepare
from retino_cli.errors import DataError, RunNotFoundError, TrackingError, TrainingError
from retino_cli.models import timm_backbones
from retino_cli.models.checkpoint import INFO_FILE, load_checkpoint
from retino_cli.models.factory import build_model
from retino_cli.models.folder_swap import locate_folder
from retino_cli.models.weights import WeightsReport, load_file, load_imagenet, transfer
from retino_cli.preprocess import IMAGENET_MEAN, IMAGENET_STD, SPEC_VERSION, PreprocessSpec
from retino_cli.runtime import Runtime
from retino_cli.tracking import RunRecord, Store
from retino_cli.training.events import Listener, Note, Preparing
from retino_cli.training.finetuning import freeze_stages

DROPOUT = 0.25
"""Of the lab head (the lab's value)."""
FORMER_ORDINAL_SIGMA = 0.7
"""Width, in grades, of the ordinal loss in runs whose configuration does not name one."""
FORMER_SETTINGS = {"layer_decay": 1.0, "head_lr": 1.0}
"""Settings of earlier versions that are gone, with the values that changed nothing."""
_SIZES_SAMPLED = 32


def count_training_images(manifest: Manifest) -> int:
    """Rows of the train split. Raises DataError where there are fewer than two (batch normalisation needs two)."""
    count = int(manifest.grade_counts("train").sum()) if (manifest.table["split"] == "train").any() else 0
    if count < 2:
        raise DataError(
            f"{manifest.root}: {count} training images; at least 2 are needed.",
            f"See what was read: retino data inspect {manifest.root}",
        )
    return count


def native_size(manifest: Manifest) -> int:
    """The shorter side, in pixels, of this data set's images: the median of up to 32 of them, read from headers."""
    paths = manifest.table["path"].to_numpy()
    paths = paths[paths != ""]
    chosen = paths[np.linspace(0, len(paths) - 1, min(_SIZES_SAMPLED, len(paths))).astype(int)]
    sizes = []
    for path in chosen:
        try:
            sizes.append(min(picture_size(str(path))))
        except DataError:
            continue  # `prepare` reports every unreadable picture, with its name
    return int(np.median(sizes)) if sizes else 512


def build_spec(config: TrainConfig) -> PreprocessSpec:
    """The preprocessing of a resolved configuration. Networks of timm are given the mean and deviation that their
    pretrained weights expect, whatever they start from, so that a run that starts from such a run sees the same."""
    mean, std = IMAGENET_MEAN, IMAGENET_STD
    if config.normalisation == "none":
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    elif is_timm(config.arch):
        mean, std = timm_backbones.read_statistics(config.arch)
    return PreprocessSpec(
        image_size=int(config.image_size or 0),
        crop="none" if config.crop == "none" else "retina",
        mean=mean,
        std=std,
    )


def spec_as_trained(spec: PreprocessSpec, record: RunRecord) -> PreprocessSpec:
    """``spec`` in the version of the preprocessing that run ``record`` began with, so that resuming it goes on with the
    same pixels; ``spec`` itself where the run names none of them."""
    versions = (replace(spec, version=version) for version in range(SPEC_VERSION, 0, -1))
    return next((older for older in versions if older.hash == record.params.get("preprocess")), spec)


def prepare_splits(
    manifest: Manifest, spec: PreprocessSpec, *, workers: int | None, skip_unreadable: bool, listen: Listener
) -> dict[str, LabelledImages]:
    """Decode what has not been decoded yet; the splits that have images, by name."""
    found = {}
    for split in ("train", "val", "test"):
        if (manifest.table["split"] == split).any():
            found[split] = prepare_split(
                manifest, split, spec, workers=workers, skip_unreadable=skip_unreadable, listen=listen
            )
    return found


def prepare_split(
    manifest: Manifest,
    split: str,
    spec: PreprocessSpec,
    *,
    workers: int | None,
    skip_unreadable: bool,
    listen: Listener,
) -> LabelledImages:
    """The pictures of one split, decoded where they have not been yet, with notes on what was left out or uncropped."""
    part = manifest.select(split)
    images = prepare(
        part,
        spec,
        workers=workers,
        skip_unreadable=skip_unreadable,
        expected=len(manifest.table),
        on_progress=lambda done, total: listen(Preparing(done, total)),
    )
    if images.unreadable:
        names = shorten(images.unreadable)
        listen(Note(f"{split}: {len(images.unreadable)} unreadable images are left out: {names}.", "warning"))
    if images.fallbacks:
        listen(Note(f"{split}: no retina was found in {images.fallbacks} images; they are used uncropped."))
    return LabelledImages.of(part, images)


def start_model(config: TrainConfig, store: Store, *, load: bool) -> tuple[nn.Module, WeightsReport | None]:
    """The network with its first weights: random from the seed, and then ImageNet's, a file's or another run's.

    ``load`` is false where a checkpoint of the same run will replace them.
    """
    torch.manual_seed(config.seed)
    size = int(config.image_size or 0)
    model = build_model(config.arch, head=str(config.head), stem=config.stem or "", dropout=DROPOUT, image_size=size)
    if is_timm(config.arch):
        timm_backbones.check_input(model, config.arch, image_size=size)
    freeze_stages(model, config.freeze)
    report = None
    if load and config.pretrained and is_timm(config.arch):
        report = timm_backbones.load_pretrained(model, config.arch, image_size=size)
    elif load and config.pretrained:
        report = load_imagenet(model, config.arch)
    elif load and config.weights is not None:
        report = load_file(model, config.weights)
    elif load and config.init is not None:
        source = store.find(config.init, kinds=("train",))
        other, _info = load_checkpoint(find_checkpoint(store, source.run_id, "best"))
        timm_backbones.fit_positions(other, image_size=size)
        report = transfer(model, other.state_dict(), source=f"run {source.name} ({source.run_id[:8]})")
    return model, report


def find_checkpoint(store: Store, run_id: str, which: str) -> Path:
    """The checkpoint ``best`` or ``last`` of a run. Raises RunNotFoundError where none has been written whole yet."""
    try:
        folder = store.download(run_id, f"checkpoint/{which}")
    except RunNotFoundError:
        # Killed between the two renames that put a checkpoint in its place: the one before stands beside it, whole.
        folder = store.download(run_id, "checkpoint") / which
    found = locate_folder(folder)
    if found is None or not (found[0] / INFO_FILE).is_file():
        raise RunNotFoundError(
            f"Run {run_id[:8]} has no checkpoint yet: it was stopped before its first epoch was complete.",
            f"Train it with: retino train --resume {run_id[:8]}",
        )
    return folder


def resumed_config(store: Store, record: RunRecord, asked: TrainConfig) -> TrainConfig:
    """The configuration of run ``record``, with what may change on the way taken from ``asked``.

    These are: the place of the data, the number of epochs, patience, device and workers. Raises TrainingError for a run
    that has nothing left to train, TrackingError where its configuration cannot be read.
    """
    try:
        values = json.loads(store.download(record.run_id, "config.json").read_text("utf-8"))
        # Runs from before this was a setting go on with the width that they began with.
        stored = TrainConfig.from_dict({"ordinal_sigma": FORMER_ORDINAL_SIGMA} | values)
    except (OSError, ValueError, RunNotFoundError) as error:
        raise TrackingError(f"Run {record.name} has no readable config.json: {error}", "Start a new run.") from error
    gone = [name for name, usual in FORMER_SETTINGS.items() if values.get(name, usual) != usual]
    if gone:
        settings = ", ".join(f"{name}={values[name]}" for name in gone)
        raise TrainingError(
            f"Run {record.name} was trained with {settings}, which this version cannot go on with.",
            f"Start a new run from its weights: retino train --init {record.run_id[:8]}",
        )
    changes: dict[str, Any] = {"device": asked.device, "workers": asked.workers, "tracking_uri": asked.tracking_uri}
    for name in ("data", "epochs", "patience"):
        if getattr(asked, name) != getattr(TrainConfig, name):
            changes[name] = getattr(asked, name)
    config = replace(stored, **changes)
    if record.status == "FINISHED":
        _refuse_finished(store, record, config)
    return config


def _refuse_finished(store: Store, record: RunRecord, config: TrainConfig) -> None:
    """Raise TrainingError where ``config`` leaves the finished run ``record`` nothing to train."""
    history = store.history(record.run_id)
    done, best = int(history[-1]["epoch"]) if history else 0, int(record.metrics.get("best_epoch", 0))
    planned, again = int(config.epochs or 0), f"retino train --resume {record.run_id[:8]}"
    if planned <= done:
        raise TrainingError(
            f"Run {record.name} is finished: {done} epochs are done.",
            f"Train longer with: {again} --epochs {2 * done}",
        )
    if 0 < config.patience <= done - best:
        raise TrainingError(
            f"Run {record.name} is finished: it stopped early after {done} of {planned} epochs, {done - best} of them "
            f"without a better one, and --patience is {config.patience}.",
            f"Train longer with: {again} --patience {2 * (done - best)}",
        )


def refuse_other_data(record: RunRecord, manifest: Manifest) -> None:
    """Raise DataError where ``manifest`` is not what run ``record`` was trained on, or cut in another way: going on
    would train on images that chose the best checkpoint, or the other way round."""
    for tag, value, what in (
        ("retino.data_fingerprint", manifest.fingerprint(), "holds other images or grades than"),
        ("retino.split_fingerprint", manifest.split_fingerprint(), "is split in another way than"),
    ):
        if record.tags.get(tag, value) != value:
            raise DataError(
                f"{manifest.root} {what} the data that {record.name} was trained on.",
                f"Name that data with --data, or start a new run from its weights: retino train --init "
                f"{record.run_id[:8]} --data {manifest.root}",
            )


def run_name(config: TrainConfig, manifest: Manifest) -> str:
    """For example ``resnet18-pretrained-idrid-s0`` or ``timm-convnext_tiny-scratch-idrid-s0``."""
    return f"{config.arch.replace(':', '-')}-{start_kind(config)}-{manifest.name}-s{config.seed}"


def start_kind(config: TrainConfig) -> str:
    """What the first weights are: ``pretrained``, ``weights`` (a file), ``init`` (another run's) or ``scratch``."""
    return "pretrained" if config.pretrained else "weights" if config.weights else "init" if config.init else "scratch"


def run_params(config: TrainConfig, spec: PreprocessSpec, runtime: Runtime) -> dict[str, Any]:
    """The flat parameters of the run: the resolved configuration, and what the machine chose for ``auto``."""
    names = config.to_dict()
    for place in ("tracking_uri", "experiment", "run_name"):  # where the run lies, not what it is
        names.pop(place)
    return {name: value for name, value in names.items() if value is not None} | {
        "device": str(runtime.device),
        "precision": runtime.precision,
        "threads": torch.get_num_threads(),
        "preprocess": spec.hash,
    }


def fingerprints(manifest: Manifest) -> dict[str, str]:
    """What identifies the data and its split, for the checkpoint."""
    return {
        "name": manifest.name,
        "layout": manifest.layout,
        "fingerprint": manifest.fingerprint(),
        "split_fingerprint": manifest.split_fingerprint(),
        "validation": manifest.validation,
    }


def run_tags(
    config: TrainConfig,
    manifest: Manifest,
    spec: PreprocessSpec,
    runtime: Runtime,
    report: WeightsReport | None,
    leaks: tuple[str, ...],
) -> dict[str, str]:
    """Tags that make runs findable: data, split and preprocessing fingerprints, device, where the weights came from."""
    tags = {
        "retino.data": manifest.name,
        "retino.data_fingerprint": manifest.fingerprint(),
        "retino.split_fingerprint": manifest.split_fingerprint(),
        "retino.leaks": "; ".join(leaks) or "none found",
        "retino.leaky": "yes" if leaks else "no",
        "retino.start": start_kind(config),
        "retino.preprocess": spec.hash,
        "retino.device": runtime.name,
    }
    if report is not None:
        tags |= {"retino.weights": report.source, "retino.weights_sha256": report.sha256}
    return tags


def shorten(names: tuple[str, ...], *, most: int = 5) -> str:
    """The first names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) + rest) or "none"
