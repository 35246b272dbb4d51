"""What a report is made of, read back from the store: nothing is predicted again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retino_cli.config import TrainConfig
from retino_cli.errors import DataError, RetinoError, RunNotFoundError
from retino_cli.evaluation.evaluation import OF_A_FILE
from retino_cli.evaluation.grader import read_validation
from retino_cli.evaluation.judged import Judged
from retino_cli.evaluation.predictions import Predictions
from retino_cli.evaluation.stored import JUDGED_KINDS, read_stored
from retino_cli.tracking import RunRecord, Store
from retino_cli.tracking.repeats import GRADER_KINDS, JUDGED_RUN_TAG, expand_repeats


@dataclass(frozen=True, eq=False)
class Source:
    """A run that judged images, and the training behind it.

    ``record`` is the run that was named, ``training`` the one that made the model (the same for a training; the repeats
    where their seeds were judged together; None for somebody else's predictions). ``members``: the trainings, several
    of repeats. ``document`` is the content of metrics.json. ``validation``: what the training
    predicted for its validation images; None where there are none. ``config``: the training's; None where it cannot
    be read.
    """

    record: RunRecord
    training: RunRecord | None
    members: tuple[RunRecord, ...]
    split: str
    predictions: Judged
    document: dict[str, Any]
    validation: Predictions | None
    config: TrainConfig | None
    stored_config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The model's name, else that of the evaluation."""
        return self.record.name if self.training is None else self.training.name

    @property
    def data(self) -> str:
        """The name of the data set."""
        return str(self.document.get("data") or self.record.tags.get("retino.data", "unknown data"))

    @property
    def probabilities(self) -> Predictions | None:
        """The predictions, where they hold five probabilities."""
        return self.predictions if isinstance(self.predictions, Predictions) else None


def read_source(store: Store, run: str, *, split: str | None = None) -> Source:
    """Read the run that ``run`` names (id, first characters of it, name, latest) on ``split`` (default: the first of
    test, val, train, all that it has).

    Raises RunNotFoundError where it has no such predictions, DataError where its metrics.json cannot be read.
    """
    record = store.find(run, kinds=JUDGED_KINDS)
    stored = read_stored(store, [record.run_id], split=split)[0]
    file = store.download(record.run_id, f"{stored.split}/metrics.json")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        document["metrics"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} cannot be read: {error}", f"Make it again with: retino eval {record.run_id[:8]}"
        ) from error
    training = _find_training(store, record)
    members = _find_members(store, training)
    stored_config = _read_config(store, members[0]) if members else {}
    try:
        config = TrainConfig.from_dict(stored_config) if stored_config else None
    except (RetinoError, TypeError):
        config = None  # of a version that knows other values
    return Source(
        record=record,
        training=training,
        members=members,
        split="" if stored.split == OF_A_FILE else stored.split,
        predictions=stored.predictions,
        document=document,
        validation=_read_validation(store, members) if members else None,
        config=config,
        stored_config=stored_config,
        history=store.history(members[0].run_id) if len(members) == 1 else [],
    )


def data_config(source: Source) -> TrainConfig | None:
    """How to read the data set that was judged; None where nothing says where it lies.

    An evaluation on other data names their place alone; how the training's data were read then says something only
    where it was told by columns.
    """
    trained = source.config
    if trained is None or source.training is None:
        return None
    place = source.record.params.get("data")
    if source.record.run_id == source.training.run_id or place is None or place == str(trained.data):
        return trained
    if trained.image_column is not None:
        return replace(trained, data=Path(place))
    return TrainConfig(
        data=Path(place), val_fraction=trained.val_fraction, seed=trained.seed, split_seed=trained.split_seed
    )


def _find_training(store: Store, record: RunRecord) -> RunRecord | None:
    if record.kind == "train":
        return record
    judged = record.tags.get(JUDGED_RUN_TAG, "")
    if not judged:
        return None
    try:
        return store.find(judged, kinds=GRADER_KINDS)
    except RunNotFoundError:
        return None  # deleted since


def _find_members(store: Store, training: RunRecord | None) -> tuple[RunRecord, ...]:
    try:
        return () if training is None else tuple(expand_repeats(store, training))
    except RunNotFoundError:
        return ()  # of repeats that are not complete any more


def _read_config(store: Store, training: RunRecord) -> dict[str, Any]:
    try:
        values = json.loads(store.download(training.run_id, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RunNotFoundError):
        return {}
    return values if isinstance(values, dict) else {}


def _read_validation(store: Store, members: Sequence[RunRecord]) -> Predictions | None:
    try:
        return read_validation(store, members)
    except (RunNotFoundError, DataError):
        return None
