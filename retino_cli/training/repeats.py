"""``train_repeats(config, n)``: one training with several seeds, and how much its numbers depend on them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from retino_cli.config import TrainConfig, resolve_config
from retino_cli.data.configured import read_manifest
from retino_cli.data.manifest import Manifest
from retino_cli.data.summary import summarise_splits
from retino_cli.errors import DataError, TrackingError, UsageError
from retino_cli.evaluation.evaluation import LOGGED_INTERVALS
from retino_cli.models.download import hash_file
from retino_cli.runtime import choose_runtime
from retino_cli.tracking import ActiveRun, RunRecord, Store, open_store
from retino_cli.tracking.datasets import CONTEXTS
from retino_cli.tracking.repeats import REPEATS, SEED_TAG, SEEDS_TAG, find_seeds
from retino_cli.training import setup as starting
from retino_cli.training.ensemble import judge_ensemble
from retino_cli.training.events import Listener, Note, ignore
from retino_cli.training.seeds import RepeatsResult, SeedRow
from retino_cli.training.train import train

MOST_REPEATS: Final = 100
_KEY_TAG: Final = "retino.repeats_key"
_NOT_A_RESULT: Final = ("data", "workers", "device", "tracking_uri", "experiment", "run_name", "weights", "split_seed")
"""Fields that say where a training lies or is computed, and those that the key holds in another form."""


def train_repeats(config: TrainConfig, repeats: int, *, listen: Listener = ignore) -> RepeatsResult:
    """Train ``config`` with the seeds ``config.seed``, ``config.seed + 1``, ... as child runs of one run of kind
    ``repeats``, and give mean and standard deviation of their metrics, and what the seeds score together.

    All of them share the cuts of ``config.split_seed`` (by default of the first seed), so that they are judged on the
    same images; everything else that is random comes from each one's own seed. A second call with the same
    configuration, data and first seed keeps the finished trainings, goes on with one that was interrupted, and trains
    those that are missing: a larger number of ``repeats`` adds seeds. With a smaller one nothing is taken away.

    Raises UsageError for fewer than 2 or more than 100 repeats and for ``init`` "latest", which would mean another run
    the next time; DataError where there is nothing to judge by; else as :func:`~retino_cli.training.train.train`,
    before the first training where it can be known then.
    """
    check_repeats(repeats)
    if config.init == "latest":
        raise UsageError(
            "--init latest is another run as soon as the first seed is trained.", "Name the run by its id: retino runs"
        )
    store = open_store(config.tracking_uri)
    if config.init is not None:  # by its id: a child may be called like it
        config = replace(config, init=store.find(config.init, kinds=("train",)).run_id)
    config = replace(config, split_seed=config.seed if config.split_seed is None else config.split_seed)
    wanted = [config.seed + k for k in range(repeats)]
    replace(config, seed=wanted[-1])  # refuses one that is too large
    manifest = read_manifest(config)
    split = next((name for name in ("test", "val") if (manifest.table["split"] == name).any()), None)
    if split is None:
        raise DataError(
            f"{manifest.root} has no test images, and none are kept for validation: there is nothing to judge by.",
            "Let some be kept, with --val-fraction 0.1",
        )
    parent = _open_parent(store, config, manifest)
    with parent:
        parent.log_inputs((summary, CONTEXTS[name]) for name, summary in summarise_splits(manifest).items())
        found = find_seeds(store, parent.run_id)
        finished = {seed for seed, record in found.items() if record.status == "FINISHED"}
        seeds = sorted({*wanted, *finished})
        parent.set_tags({SEEDS_TAG: ",".join(map(str, seeds))})
        for place, seed in enumerate(seeds, start=1):
            heading = f"Seed {seed} ({place} of {len(seeds)})"
            if seed in finished:
                listen(Note(f"{heading}: finished earlier (run {found[seed].run_id[:8]}), not trained again."))
                continue
            listen(Note(f"{heading}: training."))
            train(
                replace(config, seed=seed, run_name=f"{config.run_name}-s{seed}" if config.run_name else None),
                resume=_resumable(store, found.get(seed)),
                parent=parent.run_id,
                tags={SEED_TAG: str(seed)},
                listen=listen,
            )
        rows = _read_rows(store, parent.run_id, seeds, prefix="test" if split == "test" else "val_best", had=finished)
        together = judge_ensemble(store, parent, manifest, split=split)
        result = RepeatsResult(
            run_id=parent.run_id,
            run_name=parent.name,
            experiment=config.experiment,
            split=split,
            rows=rows,
            ensemble=together,
            store=store.where(),
            ui_command=store.ui_command(),
        )
        _record(parent, result)
    return result


def check_repeats(repeats: int) -> None:
    """Raise UsageError unless 2 <= repeats <= 100."""
    if not 2 <= repeats <= MOST_REPEATS:
        raise UsageError(
            f"--repeats {repeats} is out of range.", f"Give a number from 1 (a plain training) to {MOST_REPEATS}."
        )


def _open_parent(store: Store, config: TrainConfig, manifest: Manifest) -> ActiveRun:
    """The run of an equal earlier call, else a new one, once it is known that a training can start."""
    key = _key(config, manifest.fingerprint())
    for record in store.latest(1000, experiment=config.experiment, kinds=(REPEATS,)):
        if record.tags.get(_KEY_TAG) == key:
            return store.resume_run(record.run_id)
    resolved = resolve_config(
        config, n_train=starting.count_training_images(manifest), native_size=starting.native_size(manifest)
    )
    starting.start_model(resolved, store, load=True)  # weights that cannot be had are found before there is a run
    spec, runtime = starting.build_spec(resolved), choose_runtime(config.device, config.precision)
    params = starting.run_params(resolved, spec, runtime)
    if config.lr_auto and config.lr is None:
        params.pop("lr")  # each seed finds its own
    name = starting.run_name(config, manifest).removesuffix(f"-s{config.seed}")
    return store.start_run(
        experiment=config.experiment,
        name=config.run_name or f"repeats-{name}",
        kind=REPEATS,
        params=params,
        tags={
            _KEY_TAG: key,
            "retino.data": manifest.name,
            "retino.data_fingerprint": manifest.fingerprint(),
            "retino.split_fingerprint": manifest.split_fingerprint(),
            "retino.preprocess": spec.hash,
            "retino.device": runtime.name,
        },
    )


def _key(config: TrainConfig, fingerprint: str) -> str:
    """What makes two calls the same: the data, the first seed and all else that changes a result, not where things
    lie. Fields at their defaults are left out, so that a field that a later version adds changes no key."""
    values = config.to_dict()
    chosen = {
        field.name: values[field.name]
        for field in fields(config)
        if field.name not in _NOT_A_RESULT and values[field.name] != field.default
    }
    digest = None if config.weights is None else hash_file(config.weights)
    text = json.dumps([chosen, config.seed, config.split_seed, digest, fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _resumable(store: Store, record: RunRecord | None) -> str | None:
    """The id of an interrupted run that can go on; None where it was killed before it knew its own configuration."""
    if record is None or "config.json" not in store.artifacts(record.run_id):
        return None
    return record.run_id


def _read_rows(store: Store, parent: str, seeds: list[int], *, prefix: str, had: set[int]) -> tuple[SeedRow, ...]:
    found = find_seeds(store, parent)
    ends = {f"{name}_{end}" for name in LOGGED_INTERVALS for end in ("low", "high")}  # a mean of them is no interval
    rows = []
    for seed in seeds:
        record = found.get(seed)
        if record is None or record.status != "FINISHED" or f"{prefix}/majority_accuracy" not in record.metrics:
            raise TrackingError(
                f"The store does not hold the results of seed {seed} yet.",
                "When it answers again, repeat the command: what is finished is not trained again.",
            )
        metrics = {
            name: value
            for path, value in sorted(record.metrics.items())
            if path.startswith(f"{prefix}/") and (name := path.removeprefix(f"{prefix}/")) not in ends
        }
        tag = record.tags.get("retino.collapsed", "no")
        rows.append(
            SeedRow(
                seed=seed,
                run_id=record.run_id,
                run_name=record.name,
                best_epoch=int(record.metrics["best_epoch"]),
                metrics=metrics,
                seconds=None if record.resumed else record.duration,
                collapsed=int(tag.removeprefix("grade ")) if tag.startswith("grade ") else None,
                trained_now=seed not in had,
            )
        )
    return tuple(rows)


def _record(parent: ActiveRun, result: RepeatsResult) -> None:
    """Metrics, tags and tables of the parent."""
    prefix = "test" if result.split == "test" else "val_best"
    # At the step that is the number of seeds: a mean that fewer seeds defined stays behind at a lower step.
    parent.log_epoch(len(result.rows), {"seeds": len(result.rows)})
    parent.log_metrics(
        {f"{prefix}/{name}": value for name, value in result.mean.items()}
        | {f"{prefix}/{name}_sd": value for name, value in result.deviation.items()}
    )
    collapsed = ", ".join(str(row.seed) for row in result.collapsed)
    parent.set_tags({"retino.collapsed": f"seeds {collapsed}" if collapsed else "no"})

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "repeats.md").write_text(result.to_markdown(), encoding="utf-8")
        (folder / "repeats.json").write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")

    parent.write_folder("repeats", write)
    parent.describe(result.to_description())
