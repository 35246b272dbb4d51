"""Where the numbers of a report come from: data and what the audit found, configuration, versions, fingerprints, and
the command that repeats the run."""

from __future__ import annotations

import shlex
from dataclasses import fields
from typing import Any, Final

from retino_cli import __version__
from retino_cli.config import TrainConfig
from retino_cli.data.audit import PATIENTS_UNKNOWN, audit_manifest
from retino_cli.data.manifest import SPLITS, Manifest
from retino_cli.grades import GRADE_NAMES, GRADES
from retino_cli.recipes import RECIPES
from retino_cli.report.markup import Content, Html, element
from retino_cli.report.page import Section, notice, table
from retino_cli.report.photographs import Missing
from retino_cli.report.sources import Source
from retino_cli.tracking import RunRecord
from retino_cli.tracking.records import COMMIT_TAG, VERSION_TAG

LEAKS_TAG: Final = "retino.leaks"
NOTHING_FOUND: Final = "none found"
_WITHOUT_FLAG: Final = ("nesterov", "test_every_epoch")
"""Fields that only a recipe sets."""
_ELSEWHERE: Final = (*_WITHOUT_FLAG, "lr_auto", "tracking_uri", "experiment", "run_name", "workers")
"""Fields that ``repeat_command`` leaves out: they do not change what is trained, or have no flag."""
_FLAGS: Final = {"layout": "--format"}
_MADE_WITH: Final = (
    ("retino", VERSION_TAG),
    ("git commit of the folder", COMMIT_TAG),
    ("device", "retino.device"),
    ("data fingerprint", "retino.data_fingerprint"),
    ("split fingerprint", "retino.split_fingerprint"),
    ("preprocessing fingerprint", "retino.preprocess"),
    ("first weights", "retino.weights"),
    ("SHA-256 of these", "retino.weights_sha256"),
    ("images at once (memory was short)", "retino.micro_batch"),
)


def data_section(source: Source, manifest: Manifest | Missing) -> Section:
    """What the data set holds, and what the audit found wrong with it."""
    tags = source.members[0].tags if source.members else {}
    body: list[Content] = []
    unnamed = ""
    if isinstance(manifest, Missing):
        body.append(element("p", f"The data set itself was not looked at: {manifest.reason}."))
        found: list[str] = []
    else:
        audit = audit_manifest(manifest)
        found = list(audit.leaks)
        unnamed = "" if audit.patients_known else f" {PATIENTS_UNKNOWN}"
        body.append(_counts(manifest))
        details = [f"Read as {manifest.layout}", f"validation: {manifest.validation}"]
        if manifest.missing:
            details.append(f"{manifest.missing:,} images have no file")
        if manifest.duplicates:
            details.append(f"{manifest.duplicates:,} names occur more than once")
        if sum(manifest.ungradable.values()):
            details.append(f"{sum(manifest.ungradable.values()):,} ungradable images were left out")
        body.append(element("p", "; ".join(details) + "."))
    stored = tags.get(LEAKS_TAG, "")
    if stored not in ("", NOTHING_FOUND):
        found += [sentence for sentence in stored.split("; ") if sentence not in found]
    if found:
        body.append(notice("the splits are not independent.", kind="warning"))
        body.append(element("ul", [element("li", f"{sentence}.") for sentence in found], class_="findings"))
    elif stored == NOTHING_FOUND:
        body.append(
            element(
                "p", f"The audit before the training found no patient and no picture in more than one split.{unnamed}"
            )
        )
    else:
        body.append(element("p", "No audit is stored with the run. Make one with: retino data inspect DATA"))
    return Section("data", "Data, and what the audit found", body, "Data")


def origin_section(source: Source) -> Section:
    """The whole configuration, versions and fingerprints, and the commands."""
    body: list[Content] = []
    config, training = source.config, source.training
    if config is not None and training is not None:
        body.append(element("h3", "The command that repeats the training"))
        seeds = f" --repeats {len(source.members)}" if len(source.members) > 1 else ""
        body.append(element("pre", element("code", repeat_command(config) + seeds)))
        body.append(element("p", _repeat_note(config, training), class_="hint"))
    for record, what in _records(source):
        typed = record.tags.get("mlflow.source.name", "")
        rows: list[list[Content]] = [
            ["run", f"{record.name} ({record.run_id})"],
            ["kind, status", f"{record.kind}, {record.status}"],
            ["started (UTC)", f"{record.started:%Y-%m-%d %H:%M:%S}"],
        ]
        if record.duration is not None:
            rows.append(["took", _duration(record.duration)])
        if typed:
            rows.append(["typed as", element("code", typed)])
        rows += [[name, record.tags[tag]] for name, tag in _MADE_WITH if record.tags.get(tag)]
        rows += [[name, record.params[name]] for name in ("precision", "threads") if name in record.params]
        body.append(table(None, rows, caption=what, class_="facts"))
    if source.stored_config:
        settings = [[name, _show(value)] for name, value in source.stored_config.items()]
        whole = table(["setting", "value"], settings, caption="As it was resolved (config.json).", class_="facts")
        body.append(element("details", element("summary", "The whole configuration"), whole, open=True))
    body.append(element("p", f"This page was made by retino {__version__}.", class_="hint"))
    return Section("origin", "How it was made", body, "Origin")


def repeat_command(config: TrainConfig) -> str:
    """The ``retino train`` command whose configuration is ``config``, wherever a flag can say it.

    Every setting that was resolved is written out, so that it does not depend on how another version resolves it.
    """
    words = ["retino", "train"]
    for one in fields(TrainConfig):
        value = getattr(config, one.name)
        if (one.name in _ELSEWHERE or value is None or value == one.default) and one.name != "data":
            continue
        flag = _FLAGS.get(one.name, "--" + one.name.replace("_", "-"))
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, str(value)]
    return shlex.join(words)


def _repeat_note(config: TrainConfig, training: RunRecord) -> str:
    """What else has to be the same."""
    notes = [
        f"On the same data (fingerprint {training.tags.get('retino.data_fingerprint', 'unknown')}) and version "
        f"({training.tags.get(VERSION_TAG, 'unknown')}). "
        + (
            "It asks for algorithms that repeat bit for bit."
            if config.deterministic
            else "Without --deterministic, sums may differ in their last bits, and training enlarges that."
        )
    ]
    recipe = RECIPES.get(str(config.recipe))
    other = [
        name
        for name in _WITHOUT_FLAG
        if getattr(config, name) is not None and recipe is not None and getattr(config, name) != getattr(recipe, name)
    ]
    if other:
        notes.append(
            f"No flag says {', '.join(f'{name}={getattr(config, name)}' for name in other)}: use TrainConfig.from_dict."
        )
    return " ".join(notes)


def _records(source: Source) -> list[tuple[RunRecord, str]]:
    what = "The training." if len(source.members) < 2 else f"The trainings of {len(source.members)} seeds."
    records = [] if source.training is None else [(source.training, what)]
    if source.training is None or source.record.run_id != source.training.run_id:
        records.append((source.record, "The evaluation."))
    return records


def _counts(manifest: Manifest) -> Html:
    splits = [split for split in SPLITS if (manifest.table["split"] == split).any()]
    counts = {split: manifest.grade_counts(split).tolist() for split in splits}
    rows: list[list[Content]] = [
        [f"{grade} {GRADE_NAMES[grade]}", *(_share(counts[split], grade) for split in splits)] for grade in GRADES
    ]
    rows.append(["all", *(f"{sum(counts[split]):,}" for split in splits)])
    return table(["Grade", *splits], rows, caption=f"Images of {manifest.name} by grade and split.")


def _share(counts: list[int], grade: int) -> str:
    return f"{counts[grade]:,} ({counts[grade] / sum(counts):.0%})"


def _show(value: Any) -> str:
    return "not set" if value is None else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
