"""A run as it is read back, and the names of the tags that retino gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

KIND_TAG = "retino.kind"
VERSION_TAG = "retino.version"
ERROR_TAG = "retino.error"
HEARTBEAT_TAG = "retino.heartbeat"
RESUMED_TAG = "retino.resumed"
"""When a run that had stopped was last taken up again."""
EPOCH_METRICS_TAG = "retino.epoch_metrics"
"""Names of the metrics that are logged per epoch, with commas: tells them from final values of the same run."""

NOW_TAG = "retino.now."
"""Before the name of a parameter that was changed when the run was resumed: MLflow's parameters keep their first value.
:attr:`RunRecord.params` has the later one."""

DESCRIPTION_TAG = "mlflow.note.content"
PARENT_TAG = "mlflow.parentRunId"
COMMIT_TAG = "mlflow.source.git.commit"

KILLED_HARD = "the process was killed"


@dataclass(frozen=True)
class RunRecord:
    """A run in the store.

    ``kind`` is "train", "repeats", "eval", "compare", "lab" or "confusion"; empty for a run that retino did not make.
    ``status`` is MLflow's: RUNNING, SCHEDULED, FINISHED, FAILED or KILLED. ``params`` are
    those that the run was last resumed with, ``metrics`` holds the last value of each. ``duration`` is in seconds; None
    while the run lasts.
    """

    run_id: str
    name: str
    kind: str
    status: str
    experiment: str
    parent: str | None
    params: dict[str, str] = field(repr=False)
    metrics: dict[str, float] = field(repr=False)
    tags: dict[str, str] = field(repr=False)
    started: datetime
    duration: float | None

    @property
    def error(self) -> str:
        """Why it FAILED or was KILLED; empty if it was not."""
        return self.tags.get(ERROR_TAG, "")

    @property
    def resumed(self) -> bool:
        """Whether it was stopped once and taken up again: its ``duration`` then holds the pause as well."""
        return RESUMED_TAG in self.tags

    @property
    def silent_for(self) -> timedelta | None:
        """How long a RUNNING run has not logged anything; None if it is not RUNNING.

        A run of another host is never marked as killed from here, since its process cannot be seen: this is what can be
        told of it.
        """
        if self.status != "RUNNING":
            return None
        return datetime.now(UTC) - (parse_time(self.tags.get(HEARTBEAT_TAG, "")) or self.started)


def to_record(run: Any, experiments: Mapping[str, str]) -> RunRecord:
    """The record of MLflow's ``run``; ``experiments`` maps ids to names."""
    info, data = run.info, run.data
    tags = dict(data.tags)
    ended = info.end_time if info.status not in ("RUNNING", "SCHEDULED") else None
    return RunRecord(
        run_id=info.run_id,
        name=info.run_name or tags.get("mlflow.runName", ""),
        kind=tags.get(KIND_TAG, ""),
        status=info.status,
        experiment=experiments.get(info.experiment_id, info.experiment_id),
        parent=tags.get(PARENT_TAG),
        params=dict(data.params)
        | {name.removeprefix(NOW_TAG): value for name, value in tags.items() if name.startswith(NOW_TAG)},
        metrics=dict(data.metrics),
        tags=tags,
        started=datetime.fromtimestamp((info.start_time or 0) / 1000, UTC),
        duration=None if ended is None else max(0.0, (ended - info.start_time) / 1000),
    )


def format_now() -> str:
    """This moment as ``2026-01-31T09:30:00+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def parse_time(text: str) -> datetime | None:
    """The moment that :func:`format_now` wrote; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def shorten_id(run_id: str) -> str:
    """The first eight characters, enough to name a run."""
    return run_id[:8]


def is_run_id(text: str) -> bool:
    return len(text) == 32 and all(c in "0123456789abcdef" for c in text)


def cut_text(text: str, limit: int) -> str:
    """``text``, with its end replaced by an ellipsis if it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def cut_blocks(text: str, limit: int) -> str:
    """``text``, without its last paragraphs where it is longer than ``limit`` characters: half a table is none."""
    if len(text) <= limit:
        return text
    blocks = text.split("\n\n")
    while len(blocks) > 1 and len("\n\n".join(blocks)) + 3 > limit:
        blocks.pop()
    return cut_text("\n\n".join([*blocks, "…"]), limit)
