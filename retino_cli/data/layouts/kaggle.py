"""The lab's four files, and Kaggle's two competitions: EyePACS (2015) and APTOS (2019)."""

from __future__ import annotations

from pathlib import Path

from retino_cli.data.labels import LabelPart, patient_and_eye
from retino_cli.data.layouts.base import Layout, Site, splits_by_name
from retino_cli.data.tables import read_single_column, read_table
from retino_cli.errors import DataError

_LAB_FILES = {f"{split}_{kind}.csv": (split, kind) for split in ("train", "val", "test") for kind in ("img", "label")}
_EYEPACS_FILES = ("trainlabels.csv", "retinopathy_solution.csv")
# Common protocol: validate on the public part of the test set, test on the private one.
_USAGE_SPLITS = {"public": "val", "private": "test", "train": "train", "training": "train"}


def _find_lab(site: Site) -> list[Path]:
    if site.only is not None and site.only.name.lower() not in _LAB_FILES:
        return []
    # One of the four says nothing without its partner: a named one stands for its folder.
    folder = Site(site.folder, site.tree)
    return [file for file in folder.files(".csv") if file.name.lower() in _LAB_FILES]


def _read_lab(files: list[Path], site: Site) -> list[LabelPart]:
    by_role = {_LAB_FILES[file.name.lower()]: file for file in files}
    parts = []
    for split in ("train", "val", "test"):
        pair = {kind: by_role.get((split, kind)) for kind in ("img", "label")}
        image_file, label_file = pair["img"], pair["label"]
        if image_file is None and label_file is None:
            continue
        if image_file is None or label_file is None:
            missing = next(kind for kind, file in pair.items() if file is None)
            there = image_file or label_file
            raise DataError(f"{there}: its partner {split}_{missing}.csv is not in {site.folder}")
        names = read_single_column(image_file)
        grades = read_single_column(label_file)
        if len(names) != len(grades):
            longer, shorter = (names, grades) if len(names) > len(grades) else (grades, names)
            raise DataError(
                f"{longer.file}, line {len(shorter) + 1}: no line of {shorter.file.name} belongs to it: "
                f"{image_file.name} has {len(names)} lines, {label_file.name} {len(grades)}"
            )
        for line, grade in zip(grades.lines, grades.columns["value"], strict=True):
            if grade not in ("0", "1", "2", "3", "4"):
                what = f"{grade!r} is no grade" if grade else "the grade is empty"
                hint = "these files have no header line: delete it" if line == 1 and not grade.isdigit() else ""
                raise DataError(f"{label_file}, line {line}: {what}; grades are 0, 1, 2, 3, 4", hint=hint)
        patients, eyes = patient_and_eye(names.columns["value"])
        values = names.columns["value"], grades.columns["value"]
        parts.append(LabelPart(image_file, *values, split, names.lines, patient_id=patients, eye=eyes))
    return parts


LAB = Layout(
    "lab",
    "train_img.csv, train_label.csv, test_img.csv, test_label.csv (one column each, no header)",
    _find_lab,
    _read_lab,
    preferred=".jpeg",
)


def _find_eyepacs(site: Site) -> list[Path]:
    files = [file for file in site.with_columns("image", "level") if "submission" not in file.name.lower()]
    official = [file for file in files if file.name.lower() in _EYEPACS_FILES]
    return official or files


def _read_eyepacs(files: list[Path], site: Site) -> list[LabelPart]:
    whole = [file for file in files if "usage" not in site.header(file)]
    split_of = dict(zip(whole, splits_by_name(whole), strict=True))
    parts = []
    for file in files:
        table = read_table(file, wanted=("image", "level"), optional=("usage",))
        names = table.columns["image"]
        patients, eyes = patient_and_eye(names)
        split: str | list[str] = split_of.get(file, "")
        if file not in split_of:
            split = [_USAGE_SPLITS.get(usage.lower(), "") for usage in table.columns["usage"]]
            for line, usage, found in zip(table.lines, table.columns["usage"], split, strict=True):
                if not found:
                    raise DataError(f"{file}, line {line}: Usage {usage!r}; known are Public (val) and Private (test)")
        parts.append(LabelPart(file, names, table.columns["level"], split, table.lines, patient_id=patients, eye=eyes))
    return parts


EYEPACS = Layout(
    "eyepacs",
    "trainLabels.csv (image, level), retinopathy_solution.csv (image, level, Usage)",
    _find_eyepacs,
    _read_eyepacs,
    preferred=".jpeg",
)


def _find_aptos(site: Site) -> list[Path]:
    files = site.with_columns("id_code", "diagnosis")
    # Kaggle's sample_submission.csv has the same columns, filled with zeros. Messidor-2 has been published with these
    # column names and its own.
    return [
        file
        for file in files
        if "submission" not in file.name.lower() and "adjudicated_gradable" not in site.header(file)
    ]


def _read_aptos(files: list[Path], site: Site) -> list[LabelPart]:
    parts = []
    for file, split in zip(files, splits_by_name(files), strict=True):
        table = read_table(file, wanted=("id_code", "diagnosis"))
        parts.append(LabelPart(file, table.columns["id_code"], table.columns["diagnosis"], split, table.lines))
    return parts


APTOS = Layout("aptos", "train.csv (id_code, diagnosis)", _find_aptos, _read_aptos, preferred=".png")
