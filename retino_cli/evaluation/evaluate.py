"""``evaluate(run)``: what a trained model scores on a split of any data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retino_cli.config import TrainConfig
from retino_cli.data.configured import read_manifest
from retino_cli.data.manifest import Manifest
from retino_cli.errors import DataError
from retino_cli.evaluation.evaluation import Evaluation, check_pairs
from retino_cli.evaluation.fitted import Fitted
from retino_cli.evaluation.grader import open_grader
from retino_cli.evaluation.inference import predict
from retino_cli.evaluation.operating_point import Ungradable
from retino_cli.evaluation.operating_question import OperatingQuestion, check_operating
from retino_cli.evaluation.storing import store_evaluation
from retino_cli.training.events import Listener, Note, ignore
from retino_cli.training.setup import prepare_split


def evaluate(
    run: str,
    *,
    data: Path | None = None,
    layout: str | None = None,
    split: str = "test",
    device: str = "auto",
    precision: str = "auto",
    tta: bool | None = None,
    workers: int | None = None,
    skip_unreadable: bool = False,
    sensitivity: float | None = None,
    specificity: float | None = None,
    prevalence: float | None = None,
    ungradable: Ungradable = "exclude",
    pair_eyes: bool = False,
    tracking_uri: str | None = None,
    listen: Listener = ignore,
) -> Evaluation:
    """Evaluate the best checkpoint of training ``run`` (id, unique prefix, name or ``latest``), or the mean of the
    seeds of repeats.

    ``data`` is a data set other than the one it was trained on; ``split`` is train, val, test or all. Preprocessing
    comes from the checkpoint, and so do precision and ``tta`` (eight views of each image) where they are open. The
    evaluation is stored as a run of its own, linked to the training.

    ``sensitivity`` or ``specificity`` asks for the operating point that reaches it on the training's validation images,
    shown at ``prevalence`` (default: that of the images); images that are ungradable or unreadable are left out
    ("exclude") or counted as referred ("refer"). ``pair_eyes`` also reports both eyes of a patient together.

    Raises :class:`~retino_cli.errors.RetinoError` for an unknown run, an unreadable checkpoint, or data that has no
    such split (the message lists those that it has).
    """
    check_operating(sensitivity, specificity, prevalence, ungradable)
    grader = open_grader(run, device=device, precision=precision, tta=tta, tracking_uri=tracking_uri)
    point = grader.choose_point(sensitivity, specificity)  # before pictures are prepared: it may be refused
    store, record, info, runtime = grader.store, grader.record, grader.info, grader.runtime
    trained = TrainConfig.from_dict(info.config)
    own = data is None and layout is None
    if own:
        config = trained
    else:
        # Another data set: how the training's was read says nothing about it, but a validation cut stays the same.
        config = TrainConfig(
            data=trained.data if data is None else data,
            layout=layout,
            val_fraction=trained.val_fraction,
            seed=trained.seed,
            split_seed=trained.split_seed,
        )
    try:
        manifest = _read_as_trained(config, trained) or read_manifest(config)
    except DataError as error:
        if own:
            raise DataError(
                f"The data that {record.name} was trained on cannot be read: {error.message}",
                f"If it has moved, name its new place: retino eval {record.run_id[:8]} --data FOLDER",
            ) from error
        raise
    same = manifest.fingerprint() == info.data.get("fingerprint")
    if same and not own:  # the same images in another place, or named in another way: the same split
        manifest = read_manifest(replace(trained, data=config.data, layout=config.layout or trained.layout))
    if same and manifest.split_fingerprint() != info.data.get("split_fingerprint"):
        listen(Note("These are the images of the training, but cut into splits in another way: they leak.", "warning"))
    labelled = prepare_split(
        manifest, split, info.preprocess, workers=workers, skip_unreadable=skip_unreadable, listen=listen
    )
    if same and split in ("train", "all"):
        listen(
            Note(f"Split {split} holds images that the model was trained on: these numbers are no estimate.", "warning")
        )
    question = None
    if point is not None:
        question = OperatingQuestion(point, prevalence, ungradable)
        if same and split == "val":
            text = "The threshold was chosen on these very images: what it does here is no estimate."
            listen(Note(text, "warning"))
    n_ungradable = _count_ungradable(manifest, split, listen if question else ignore)
    n_ungradable += len(labelled.images.unreadable)
    predictions = predict(grader.model, labelled, info.preprocess, runtime, tta=grader.tta)
    if pair_eyes:
        check_pairs(predictions)
    return store_evaluation(
        predictions,
        store=store,
        record=record,
        manifest=manifest,
        split=split,
        params={
            "data": str(config.data),
            "preprocess": info.preprocess.hash,
            "device": str(runtime.device),
            "precision": runtime.precision,
            "tta": grader.tta,
        },
        device_name=runtime.name,
        model=store.logged_model(record, info.epoch),
        seeds=grader.seeds,
        # What was fitted on these very images would look better than it is.
        fitted=None if same and split != "test" else Fitted.from_dict(info.calibration),
        question=question,
        n_ungradable=n_ungradable,
        pair_eyes=pair_eyes,
    )


def _count_ungradable(manifest: Manifest, split: str, listen: Listener) -> int:
    """The ungradable images of ``split``. Labels say of them which official split they are in, and no more."""
    counts = manifest.ungradable
    if split == "all":
        return sum(counts.values())
    by_patient = manifest.validation.startswith("cut by patient")
    if by_patient or (manifest.official is not None and split != "test"):
        if sum(counts.values()):
            text = f"{sum(counts.values())} ungradable images belong to no split of this cut: they are not counted."
            listen(Note(text, "warning"))
        return 0
    return counts.get(split, 0)


def _read_as_trained(config: TrainConfig, trained: TrainConfig) -> Manifest | None:
    """Data in another place, read by the columns that the training named; None where it has no such columns."""
    if trained.image_column is None or config.layout is not None or config.image_column is not None:
        return None
    try:
        return read_manifest(replace(trained, data=config.data))
    except DataError:
        return None
