"""IDRiD, Messidor-2, DeepDRiD and DDR."""

from __future__ import annotations

import re
from pathlib import Path

from retino_cli.data.labels import LabelPart
from retino_cli.data.layouts.base import Layout, Site, splits_by_name
from retino_cli.data.tables import first_lines, read_table, read_text
from retino_cli.data.tree import split_in_name
from retino_cli.errors import DataError

# DDR and DeepDRiD write 5 for a photograph that cannot be graded.
_UNGRADABLE = ("5", "5.0")
_IDRID_NAME, _IDRID_GRADE = "image name", "retinopathy grade"
_DEEPDRID_EYES = {"l": ("left", "left_eye_dr_level"), "r": ("right", "right_eye_dr_level")}
_DDR_FILES = ("train.txt", "valid.txt", "val.txt", "test.txt")
_DDR_ROW = re.compile(r"(.+\S)\s+(\S+)")


def _find_idrid(site: Site) -> list[Path]:
    return site.with_columns(_IDRID_NAME, _IDRID_GRADE)


def _read_idrid(files: list[Path], site: Site) -> list[LabelPart]:
    parts = []
    for file, split in zip(files, splits_by_name(files), strict=True):
        table = read_table(file, wanted=(_IDRID_NAME, _IDRID_GRADE))
        parts.append(LabelPart(file, table.columns[_IDRID_NAME], table.columns[_IDRID_GRADE], split, table.lines))
    return parts


IDRID = Layout(
    "idrid",
    '"B. Disease Grading" with its "... Disease Grading_Training Labels.csv" (Image name, Retinopathy grade)',
    _find_idrid,
    _read_idrid,
    preferred=".jpg",
    one_name_one_image=False,
)


def _find_messidor2(site: Site) -> list[Path]:
    files = site.with_columns("adjudicated_gradable")
    return [file for file in files if _messidor2_columns(site, file) is not None]


def _messidor2_columns(site: Site, file: Path) -> tuple[str, str] | None:
    header = site.header(file)
    for name, grade in (("image_id", "adjudicated_dr_grade"), ("id_code", "diagnosis")):
        if {name, grade} <= header:
            return name, grade
    return None


def _read_messidor2(files: list[Path], site: Site) -> list[LabelPart]:
    if len(files) > 1:
        listed = ", ".join(file.name for file in files)
        raise DataError(f"{site.folder}: more than one label file: {listed}", hint="name the one to read")
    name, grade = _messidor2_columns(site, files[0]) or ("image_id", "adjudicated_dr_grade")
    table = read_table(files[0], wanted=(name, grade, "adjudicated_gradable"))
    gradable = table.columns["adjudicated_gradable"]
    for line, value in zip(table.lines, gradable, strict=True):
        if value not in ("0", "1", "0.0", "1.0"):
            raise DataError(f"{files[0]}, line {line}: adjudicated_gradable is {value!r}; it is 0 or 1")
    ungradable = [value in ("0", "0.0") for value in gradable]
    columns = table.columns
    return [LabelPart(files[0], columns[name], columns[grade], "train", table.lines, ungradable=ungradable)]


MESSIDOR2 = Layout(
    "messidor2",
    "messidor_data.csv (image_id, adjudicated_dr_grade, adjudicated_gradable; or id_code, diagnosis, ...)",
    _find_messidor2,
    _read_messidor2,
)


def _find_deepdrid(site: Site) -> list[Path]:
    below = [
        name
        for name in site.tree.listing(site.folder).folders
        if name.lower().startswith(("regular-fundus", "regular_fundus", "online-challenge1", "online_challenge1"))
    ]
    regular = site.with_columns("image_id", "left_eye_dr_level", "right_eye_dr_level", below=below)
    # The labels of the challenge's test images were published afterwards, in a file with other columns.
    test = [
        file for file in site.with_columns("image_id", "dr_levels", below=below) if "upload" not in file.name.lower()
    ]
    return regular + test


def _read_deepdrid(files: list[Path], site: Site) -> list[LabelPart]:
    challenge = [file for file in files if "dr_levels" in site.header(file)]
    regular = [file for file in files if file not in challenge]
    split_of = dict(zip(regular, splits_by_name(regular), strict=True)) | dict.fromkeys(challenge, "test")
    return [_read_deepdrid_file(file, split) for file, split in split_of.items()]


def _read_deepdrid_file(file: Path, split: str) -> LabelPart:
    levels = ("left_eye_dr_level", "right_eye_dr_level", "dr_levels")
    table = read_table(file, wanted=("image_id",), optional=("patient_id", *levels))
    names = table.columns["image_id"]
    eyes, grades, patients = [], [], []
    for row, name in enumerate(names):
        patient, _, view = name.rpartition("_")  # 12_l1: patient 12, left eye, first view
        eye, column = _DEEPDRID_EYES.get(view[:1].lower(), ("", ""))
        if not eye:
            raise DataError(f"{file}, line {table.lines[row]}: image_id {name!r}; it reads like 12_l1 or 12_r2")
        eyes.append(eye)
        grades.append(table.columns["dr_levels" if "dr_levels" in table.columns else column][row])
        patients.append(table.columns["patient_id"][row] if "patient_id" in table.columns else patient)
    ungradable = [grade in _UNGRADABLE for grade in grades]
    return LabelPart(file, names, grades, split, table.lines, patient_id=patients, eye=eyes, ungradable=ungradable)


DEEPDRID = Layout(
    "deepdrid",
    "regular-fundus-training.csv, regular-fundus-validation.csv (image_id, left_eye_DR_Level, right_eye_DR_Level)",
    _find_deepdrid,
    _read_deepdrid,
    preferred=".jpg",
)


def _find_ddr(site: Site) -> list[Path]:
    files = [file for file in site.files(".txt") if site.only is not None or file.name.lower() in _DDR_FILES]
    return [file for file in files if any(re.fullmatch(r".+\s\d", line) for line in first_lines(file, 3))]


def _read_ddr(files: list[Path], site: Site) -> list[LabelPart]:
    parts = []
    for file in files:
        names, grades, lines = [], [], []
        for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(file)), start=1):
            if not line.strip():
                continue
            row = _DDR_ROW.fullmatch(line.strip())
            if row is None:
                raise DataError(f"{file}, line {number}: {line.strip()!r}; a line reads: name.jpg grade")
            names.append(row[1])
            grades.append(row[2])
            lines.append(number)
        ungradable = [grade in _UNGRADABLE for grade in grades]
        split = split_in_name(file.stem) or "train"
        parts.append(LabelPart(file, names, grades, split, lines, ungradable=ungradable))
    return parts


DDR = Layout("ddr", "train.txt, valid.txt, test.txt (lines: name.jpg grade)", _find_ddr, _read_ddr, preferred=".jpg")
