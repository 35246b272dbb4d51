"""Every layout that names grades in a file, made small on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from retino_cli.data.manifest import ColumnNames, Manifest, load_manifest
from retino_cli.errors import DataError, UsageError


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def rows(manifest: Manifest, *columns: str) -> list[tuple[object, ...]]:
    return sorted(manifest.table[list(columns)].itertuples(index=False, name=None))


def read(path: Path, *, layout: str | None = None, columns: ColumnNames | None = None) -> Manifest:
    return load_manifest(path, val_fraction=0, layout=layout, columns=columns)


def lab(root: Path, *, train: Sequence[str], train_grades: Sequence[str]) -> Path:
    write(root / "train_img.csv", "\n".join(train) + "\n")
    write(root / "train_label.csv", "\n".join(train_grades) + "\n")
    write(root / "test_img.csv", "3_left\n")
    write(root / "test_label.csv", "4\n")
    return root


def test_lab_reads_the_first_line_too(tmp_path: Path) -> None:
    lab(tmp_path, train=["1_left", "1_right", "2_left"], train_grades=["0", "2", "1"])
    touch(tmp_path, "1_left.jpeg", "train/1_right.JPG", "3_left.jpeg")
    manifest = read(tmp_path)
    assert (manifest.layout, manifest.name, manifest.validation) == ("lab", "lab", "none")
    assert rows(manifest, "image_id", "grade", "split", "patient_id", "eye", "path") == [
        ("1_left", 0, "train", "1", "left", str(tmp_path / "1_left.jpeg")),
        ("1_right", 2, "train", "1", "right", str(tmp_path / "train" / "1_right.JPG")),
        ("2_left", 1, "train", "2", "left", ""),
        ("3_left", 4, "test", "3", "left", str(tmp_path / "3_left.jpeg")),
    ]
    assert manifest.missing == 1
    assert rows(read(tmp_path / "test_img.csv"), "image_id") == rows(manifest, "image_id")


@pytest.mark.parametrize(
    ("names", "grades", "message"),
    [
        (["1_left", "1_right"], ["0", "7"], r"train_label\.csv, line 2: '7' is no grade; grades are 0, 1, 2, 3, 4"),
        (["1_left", "1_right"], ["level", "1"], r"train_label\.csv, line 1: 'level' is no grade"),
        (["1_left", "", "2_left"], ["0", "1", "1"], r"train_img\.csv, line 2: the image name is empty"),
        (["1_left", "1_right"], ["0"], r"train_img\.csv, line 2: no line of train_label\.csv.*2 lines.*1"),
        (["1_left", "a,b"], ["0", "1"], r"train_img\.csv, line 2: more than one column"),
        (["1_left", "1_left"], ["0", "1"], r"train_img\.csv, line 2: '1_left' is graded 1, but 0 in .*line 1"),
    ],
)
def test_lab_rows_that_cannot_be_right(tmp_path: Path, names: list[str], grades: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(lab(tmp_path, train=names, train_grades=grades))


def test_lab_needs_both_of_a_pair(tmp_path: Path) -> None:
    lab(tmp_path, train=["1_left"], train_grades=["0"])
    (tmp_path / "test_label.csv").unlink()
    with pytest.raises(DataError, match=r"test_img\.csv: its partner test_label\.csv is not in"):
        read(tmp_path)


def test_lab_blank_lines_at_the_end_do_not_count(tmp_path: Path) -> None:
    lab(tmp_path, train=["1_left", "2_left"], train_grades=["0", "1", "", "  "])
    assert len(read(tmp_path).select("train").table) == 2


def test_eyepacs_train_and_solution_together(tmp_path: Path) -> None:
    write(tmp_path / "trainLabels.csv", "image,level\n10_left,0\n10_right,3\n")
    write(
        tmp_path / "retinopathy_solution.csv",
        "image,level,Usage\n1_left,0,Public\n1_right,4,Private\n2_left,1,Private\n",
    )
    write(tmp_path / "sampleSubmission.csv", "image,level\n1_left,0\n")
    touch(
        tmp_path,
        "train/10_left.jpeg",
        "train/10_right.jpeg",
        "test/1_left.jpeg",
        "test/1_right.jpeg",
        "test/2_left.jpeg",
    )
    manifest = read(tmp_path)
    assert (manifest.layout, manifest.validation, manifest.missing) == ("eyepacs", "official", 0)
    assert rows(manifest, "image_id", "grade", "split") == [
        ("10_left", 0, "train"),
        ("10_right", 3, "train"),
        ("1_left", 0, "val"),
        ("1_right", 4, "test"),
        ("2_left", 1, "test"),
    ]
    assert rows(read(tmp_path / "trainLabels.csv"), "split", "patient_id") == [("train", "10"), ("train", "10")]
    assert [split for (split,) in rows(read(tmp_path / "retinopathy_solution.csv"), "split")] == ["test", "test", "val"]


def test_eyepacs_unknown_usage(tmp_path: Path) -> None:
    write(tmp_path / "retinopathy_solution.csv", "image,level,Usage\n1_left,0,Public\n1_right,4,Secret\n")
    with pytest.raises(DataError, match=r"retinopathy_solution\.csv, line 3: Usage 'Secret'.*Public"):
        read(tmp_path)


def test_synthetic_photographs_are_called_so(tmp_path: Path) -> None:
    write(tmp_path / "trainLabels.csv", "image,level\nsynthetic_00001_left,0\nsynthetic_00001_right,3\n")
    manifest = read(tmp_path)
    assert (manifest.layout, manifest.name) == ("eyepacs", "synthetic")
    assert rows(manifest, "patient_id", "eye") == [("synthetic_00001", "left"), ("synthetic_00001", "right")]


def test_aptos_ignores_files_without_labels(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "id_code,diagnosis\n000c1434d8d7,2\n001639a390f0,4\n")
    write(tmp_path / "test.csv", "id_code\n0005cfc8afb6\n")
    write(tmp_path / "sample_submission.csv", "id_code,diagnosis\n0005cfc8afb6,0\n")
    touch(tmp_path, "train_images/000c1434d8d7.png", "test_images/0005cfc8afb6.png")
    manifest = read(tmp_path)
    assert rows(manifest, "image_id", "grade", "split", "patient_id", "path") == [
        ("000c1434d8d7", 2, "train", "", str(tmp_path / "train_images" / "000c1434d8d7.png")),
        ("001639a390f0", 4, "train", "", ""),
    ]
    assert manifest.layout == "aptos"


def idrid(root: Path) -> Path:
    base = root / "B. Disease Grading"
    header = "Image name,Retinopathy grade,Risk of macular edema "
    write(
        base / "2. Groundtruths" / "a. IDRiD_Disease Grading_Training Labels.csv",
        f"\ufeff{header},,,\r\nIDRiD_001,3,2,,,\r\nIDRiD_002 ,0,0,,,\r\n,,,,,\r\n",
    )
    write(base / "2. Groundtruths" / "b. IDRiD_Disease Grading_Testing Labels.csv", f"{header}\r\nIDRiD_001,4,0\r\n")
    touch(base / "1. Original Images", "a. Training Set/IDRiD_001.jpg", "a. Training Set/IDRiD_002.jpg")
    touch(base / "1. Original Images", "b. Testing Set/IDRiD_001.jpg")
    touch(root, "A. Segmentation/1. Original Images/a. Training Set/IDRiD_001.jpg")
    return base


@pytest.mark.parametrize("below", ["", "B. Disease Grading", "B. Disease Grading/2. Groundtruths"])
def test_idrid_names_repeat_between_splits(tmp_path: Path, below: str) -> None:
    images = idrid(tmp_path) / "1. Original Images"
    manifest = read(tmp_path / below)
    assert rows(manifest, "image_id", "grade", "split", "path") == [
        ("test/IDRiD_001", 4, "test", str(images / "b. Testing Set" / "IDRiD_001.jpg")),
        ("train/IDRiD_001", 3, "train", str(images / "a. Training Set" / "IDRiD_001.jpg")),
        ("train/IDRiD_002", 0, "train", str(images / "a. Training Set" / "IDRiD_002.jpg")),
    ]
    assert (manifest.layout, manifest.name) == ("idrid", "idrid")


def test_idrid_never_takes_the_other_splits_picture(tmp_path: Path) -> None:
    images = idrid(tmp_path) / "1. Original Images"
    (images / "b. Testing Set" / "IDRiD_001.jpg").unlink()
    assert rows(read(tmp_path).select("test"), "path") == [("",)]


@pytest.mark.parametrize(
    "header",
    [
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable",
        "id_code,diagnosis,adjudicated_dme,adjudicated_gradable",
    ],
)
def test_messidor2_counts_the_ungradable(tmp_path: Path, header: str) -> None:
    write(tmp_path / "messidor_data.csv", f"{header}\na.png,0,0,1\nb.jpg,2.0,0,1\nIM0039.JPG,,,0\nd.png,4,1,1\n")
    touch(tmp_path / "messidor-2" / "preprocess", "A.png", "b.JPG", "IM0039.JPG")
    manifest = read(tmp_path)
    assert (manifest.layout, manifest.ungradable, manifest.missing) == ("messidor2", {"train": 1}, 1)
    assert rows(manifest, "image_id", "grade", "split") == [("a", 0, "train"), ("b", 2, "train"), ("d", 4, "train")]


def test_messidor2_gradable_without_grade(tmp_path: Path) -> None:
    header = "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable"
    write(tmp_path / "messidor_data.csv", f"{header}\na.png,0,0,1\nb.jpg,,0,1\n")
    with pytest.raises(DataError, match=r"messidor_data\.csv, line 3: the grade of 'b.jpg' is empty"):
        read(tmp_path)


def deepdrid(root: Path) -> Path:
    header = (
        "patient_id,image_id,image_path,Overall quality,left_eye_DR_Level,right_eye_DR_Level,"
        "patient_DR_Level,Clarity,Field definition,Artifact\n"
    )
    base = root / "regular_fundus_images"
    train = base / "regular-fundus-training"
    write(
        train / "regular-fundus-training.csv",
        header + "1,1_l1,\\regular-fundus-training\\1\\1_l1.jpg,1,0,,2,8,8,1\n"
        "1,1_r1,\\regular-fundus-training\\1\\1_r1.jpg,1,,2,2,8,8,1\n"
        "2,2_r1,\\regular-fundus-training\\2\\2_r1.jpg,0,,5,2,8,8,1\n",
    )
    touch(train / "Images", "1/1_l1.jpg", "1/1_r1.jpg", "2/2_r1.jpg")
    valid = base / "regular-fundus-validation"
    write(valid / "regular-fundus-validation.csv", header + "265,265_l1,\\x\\265\\265_l1.jpg,1,3,,3,8,8,1\n")
    touch(valid / "Images", "265/265_l1.jpg")
    challenge = base / "Online-Challenge1&2-Evaluation"
    write(challenge / "Challenge1_upload.csv", "image_id,DR_Levels\n347_l1,\n")
    write(challenge / "Challenge1_labels.csv", "image_id,DR_Levels\n347_l1,4\n")
    touch(challenge / "Images", "347/347_l1.jpg")
    return base


def test_deepdrid_takes_the_eyes_own_level(tmp_path: Path) -> None:
    base = deepdrid(tmp_path)
    manifest = read(tmp_path)
    assert rows(manifest, "image_id", "grade", "split", "patient_id", "eye") == [
        ("1_l1", 0, "train", "1", "left"),
        ("1_r1", 2, "train", "1", "right"),
        ("265_l1", 3, "val", "265", "left"),
        ("347_l1", 4, "test", "347", "left"),
    ]
    assert (manifest.layout, manifest.validation, manifest.missing) == ("deepdrid", "official", 0)
    assert manifest.ungradable == {"train": 1, "val": 0, "test": 0}
    assert len(read(base / "regular-fundus-training" / "regular-fundus-training.csv").table) == 2


def test_ddr_lists(tmp_path: Path) -> None:
    write(tmp_path / "DR_grading" / "train.txt", "007-0004-000.jpg 0\n007-0007-000.jpg 5\n\n")
    write(tmp_path / "DR_grading" / "valid.txt", "a b.jpg 3\r\n")
    write(tmp_path / "DR_grading" / "test.txt", "007-1.jpg 4")
    touch(tmp_path / "DR_grading", "train/007-0004-000.jpg", "valid/a b.jpg", "test/007-1.jpg")
    manifest = read(tmp_path)
    assert (manifest.layout, manifest.missing) == ("ddr", 0)
    assert manifest.ungradable == {"train": 1, "val": 0, "test": 0}
    assert rows(manifest, "image_id", "grade", "split") == [
        ("007-0004-000", 0, "train"),
        ("007-1", 4, "test"),
        ("a b", 3, "val"),
    ]


def test_ddr_line_that_cannot_be_right(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "a.jpg 0\n\nb.jpg\n")
    with pytest.raises(DataError, match=r"train\.txt, line 3: 'b.jpg'; a line reads: name.jpg grade"):
        read(tmp_path)


def npz(file: Path, **changes: np.ndarray) -> Path:
    arrays = {
        f"{split}_{kind}": np.zeros((n, 28, 28, 3), np.uint8) if kind == "images" else np.arange(n)[:, None] % 5
        for split, n in (("train", 6), ("val", 2), ("test", 3))
        for kind in ("images", "labels")
    }
    np.savez(file, **(arrays | changes))
    return file


@pytest.mark.parametrize("named", ["file", "folder"])
def test_retinamnist(tmp_path: Path, named: str) -> None:
    file = npz(tmp_path / "retinamnist_224.npz")
    manifest = read(file if named == "file" else tmp_path)
    assert (manifest.layout, manifest.name, manifest.validation) == ("medmnist", "retinamnist_224", "official")
    assert rows(manifest.select("test"), "image_id", "grade", "path") == [
        (f"test/{row}", row, f"{file}#test/{row}") for row in range(3)
    ]
    assert manifest.missing == 0


def test_retinamnist_that_cannot_be_right(tmp_path: Path) -> None:
    file = npz(tmp_path / "retinamnist.npz", val_labels=np.array([[0], [8]]))
    with pytest.raises(DataError, match=r"retinamnist\.npz, row of val_labels 1: .*'8'"):
        read(file)
    npz(file, test_labels=np.zeros((4, 1), int))
    with pytest.raises(DataError, match=r"test_labels has shape \(4, 1\), but there are 3 test_images"):
        read(file)
    file.write_bytes(b"no archive")
    with pytest.raises(DataError, match="not a readable npz file"):
        read(file)


def test_grade_folders_with_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/No_DR/a.jpg", "train/Proliferate_DR/b.PNG", "validation/0/c.tif", "validation/4/d.webp")
    touch(tmp_path, "test/Mild/e.ppm", "test/3/f.bmp", "test/3/notes.txt")
    manifest = read(tmp_path)
    assert (manifest.layout, manifest.name, manifest.validation) == ("folders", tmp_path.name, "official")
    assert rows(manifest, "image_id", "grade", "split") == [
        ("a", 0, "train"),
        ("b", 4, "train"),
        ("c", 0, "val"),
        ("d", 4, "val"),
        ("e", 1, "test"),
        ("f", 3, "test"),
    ]
    assert manifest.missing == 0


def test_grade_folders_where_names_begin_anew(tmp_path: Path) -> None:
    touch(tmp_path, "0/001.jpg", "0/002.jpg", "2/001.jpg")
    manifest = read(tmp_path)
    assert rows(manifest, "image_id", "grade", "split") == [
        ("0/001", 0, "train"),
        ("0/002", 0, "train"),
        ("2/001", 2, "train"),
    ]


def test_grade_folders_keep_the_patients_in_eyepacs_names(tmp_path: Path) -> None:
    touch(tmp_path, "0/10_left.jpeg", "2/10_right.jpeg")
    assert rows(read(tmp_path), "patient_id", "eye") == [("10", "left"), ("10", "right")]
    touch(tmp_path, "1/other.jpeg")
    assert rows(read(tmp_path), "patient_id") == [("",)] * 3


def test_folders_of_numbered_patients_are_no_grades(tmp_path: Path) -> None:
    touch(tmp_path, "1/a.jpg", "2/b.jpg", "87/c.jpg")
    with pytest.raises(DataError, match="no known layout"):
        read(tmp_path)


def test_any_csv_by_its_columns(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.csv",
        'file;who;DR;part\n"pictures/a.jpg";p1;Moderate;train\npictures\\b.png;p1;0;Validation\nc.tif;;4;test\n',
    )
    touch(tmp_path, "pictures/a.jpg", "pictures/b.png", "scans/c.TIFF")
    columns = ColumnNames("file", "DR", split="part", patient="who")
    for path in (file, tmp_path):
        manifest = read(path, columns=columns)
        assert manifest.layout == "csv"
        assert rows(manifest, "image_id", "grade", "split", "patient_id") == [
            ("c", 4, "test", ""),
            ("pictures/a", 2, "train", "p1"),
            ("pictures/b", 0, "val", "p1"),
        ]
        assert manifest.select("train").missing == 0


def test_csv_without_the_column_lists_those_it_has(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "file,DR\na.jpg,1\n")
    with pytest.raises(DataError, match=r"mine\.csv, line 1: no column 'grade'; its columns: 'file', 'DR'") as error:
        read(file, columns=ColumnNames("file", "grade"))
    assert "--label-column" in error.value.hint
    with pytest.raises(DataError, match="its first line: file, DR") as error:
        read(file)
    assert "--image-column" in error.value.hint


def test_csv_with_an_unknown_split(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "file,DR,part\na.jpg,1,train\nb.jpg,1,fold 3\n")
    with pytest.raises(DataError, match=r"mine\.csv, line 3: the split is 'fold 3'; splits are train, val"):
        read(file, columns=ColumnNames("file", "DR", split="part"))


def test_one_file_under_two_names_has_one_grade(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", "file,DR\na.jpg,1\nA,2\n")
    touch(tmp_path, "a.jpg")
    with pytest.raises(DataError, match=r"mine\.csv, line 3: .*a\.jpg is graded 2, but 1 in .*line 2"):
        read(file, columns=ColumnNames("file", "DR"))


def test_forced_layouts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--format kaggle: no such layout; layouts are lab, eyepacs, .*csv"):
        read(tmp_path, layout="kaggle")
    with pytest.raises(UsageError, match="needs --image-column"):
        read(tmp_path, layout="csv")
    with pytest.raises(UsageError, match="belong to --format csv"):
        read(tmp_path, layout="lab", columns=ColumnNames("a", "b"))


def test_two_layouts_in_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "id_code,diagnosis\na,2\n")
    write(tmp_path / "trainLabels.csv", "image,level\n10_left,0\n")
    with pytest.raises(
        DataError, match=r"more than one layout: eyepacs \(trainLabels\.csv\); aptos \(train\.csv\)"
    ) as error:
        read(tmp_path)
    assert error.value.hint == "say which: --format eyepacs or --format aptos"
    assert read(tmp_path, layout="aptos").layout == "aptos"


def test_two_data_sets_below_one_folder(tmp_path: Path) -> None:
    write(tmp_path / "one" / "train.csv", "id_code,diagnosis\na,2\n")
    npz(tmp_path / "retinamnist.npz").rename(write(tmp_path / "other" / "deep" / "retinamnist.npz", ""))
    with pytest.raises(DataError, match=r"holds 2 data sets: .*one \(aptos\); .*deep \(medmnist\)") as error:
        read(tmp_path)
    assert error.value.hint == "name one of these folders"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.deep: no such file or folder") as error:
        read(tmp_path / "nowhere" / "deep")
    assert error.value.hint == f"the nearest folder that exists is {tmp_path}"
    with pytest.raises(DataError, match="the folder is empty"):
        read(tmp_path)
    touch(tmp_path, "photo.jpg", "sub/other.jpg")
    with pytest.raises(DataError, match=r"it holds sub/, photo\.jpg\.\nLooked for:\n  lab: .*\n  eyepacs: ") as error:
        read(tmp_path)
    assert "--format" in error.value.hint
    with pytest.raises(DataError, match="not laid out as idrid"):
        read(tmp_path, layout="idrid")
    with pytest.raises(DataError, match="it is empty or no text"):
        read(tmp_path / "photo.jpg")
