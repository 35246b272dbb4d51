"""Repeats of a training: a run of kind ``repeats`` whose children differ in nothing but the seed."""

from __future__ import annotations

from typing import Final

from retino_cli.errors import RunNotFoundError
from retino_cli.tracking.records import RunRecord, shorten_id
from retino_cli.tracking.store import Store

REPEATS: Final = "repeats"
"""The kind of the parent."""
JUDGED_RUN_TAG: Final = "retino.judged_run"
"""Of an evaluation: the id of the run that was judged."""
GRADER_KINDS: Final = ("train", REPEATS)
"""Kinds of runs that can grade pictures."""
SEEDS_TAG: Final = "retino.seeds"
"""Of the parent: the seeds that were asked for, with commas."""
ENSEMBLE_TAG: Final = "retino.ensemble"
"""Of an evaluation of several seeds together: which."""
SEED_TAG: Final = "retino.repeated_seed"
"""Of a child: its seed."""


def find_seeds(store: Store, parent: str) -> dict[int, RunRecord]:
    """The children of run ``parent`` by seed. Of several with one seed the finished one, else the newest."""
    found: dict[int, RunRecord] = {}
    for record in store.latest(1000, kinds=("train",), parent=parent):
        text = record.tags.get(SEED_TAG, "")
        if not text.isdecimal():
            continue
        seed = int(text)
        if seed not in found or (record.status == "FINISHED" != found[seed].status):
            found[seed] = record
    return dict(sorted(found.items()))


def expand_repeats(store: Store, record: RunRecord) -> list[RunRecord]:
    """The trainings of the repeats ``record``, by seed; of any other run, itself.

    Raises RunNotFoundError where one that was asked for is not finished: leaving it out unsaid would change the mean.
    """
    if record.kind != REPEATS:
        return [record]
    found = find_seeds(store, record.run_id)
    finished = {seed: run for seed, run in found.items() if run.status == "FINISHED"}
    asked = [int(seed) for seed in record.tags.get(SEEDS_TAG, "").split(",") if seed]
    missing = [seed for seed in asked if seed not in finished]
    if missing or not finished:
        names = " ".join(shorten_id(run.run_id) for run in finished.values())
        raise RunNotFoundError(
            f"{record.name} ({shorten_id(record.run_id)}) is not complete: seed "
            f"{', '.join(map(str, missing)) or '(none)'} is not finished.",
            "Repeat its `retino train --repeats` command to complete it"
            + (f", or name its finished runs: {names}" if names else "."),
        )
    return list(finished.values())
