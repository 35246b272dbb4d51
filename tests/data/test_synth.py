"""Synthetic fundus photographs: reproducible, marked, true to the ICDR scale, and learnable."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import operator
import os
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from retino_cli.data import synth, synth_pool
from retino_cli.data.synth import SyntheticEye, draw_eye, write_dataset
from retino_cli.data.synth_anatomy import draw_traits, frame_view, grow_anatomy, quadrant_of
from retino_cli.data.synth_canvas import View
from retino_cli.data.synth_grades import DISCORDANT, EYEPACS_DISTRIBUTION, count_grades, deal_grades, normalised
from retino_cli.data.synth_plan import MANY_HAEMORRHAGES, plan_lesions
from retino_cli.errors import DataError, UsageError


def draw(patient: int = 3, grade: int = 2, *, eye: str = "left", size: int = 96, seed: int = 0) -> SyntheticEye:
    return draw_eye(patient=patient, eye="left" if eye == "left" else "right", grade=grade, size=size, seed=seed)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "data"
    write_dataset(folder, patients=12, size=64, seed=5, masks=True, workers=1)
    return folder


# --- one eye


def test_the_same_arguments_draw_the_same_eye_whatever_was_drawn_before() -> None:
    first = draw()
    draw(patient=4, grade=4)
    again = draw()
    assert np.array_equal(first.pixels, again.pixels)
    assert np.array_equal(first.lesion_mask, again.lesion_mask)


@pytest.mark.parametrize("other", [{"seed": 1}, {"patient": 4}, {"eye": "right"}, {"grade": 3}])
def test_every_argument_changes_the_picture(other: dict[str, object]) -> None:
    first, second = draw().pixels, draw(**other).pixels  # type: ignore[arg-type]  # a test's shorthand
    assert first.shape != second.shape or np.abs(first.astype(int) - second).mean() > 0.05


def test_a_grade_changes_the_lesions_only() -> None:
    healthy, ill = draw(grade=0, size=128), draw(grade=2, size=128)
    difference = np.abs(healthy.pixels.astype(int) - ill.pixels).max(axis=2)
    # Blur carries a lesion's light a little beyond its outline: compare well away from every lesion.
    near = np.pad(ill.lesion_mask, 4)
    near = np.any([np.roll(near, (dy, dx), (0, 1)) for dy in range(-4, 5) for dx in range(-4, 5)], axis=0)[4:-4, 4:-4]
    assert difference[~near].mean() < 0.5
    assert difference[ill.lesion_mask].mean() > 10


@pytest.mark.parametrize("size", [32, 77, 300])
def test_a_round_field_on_black_in_a_frame_of_the_size(size: int) -> None:
    for patient in range(6):
        eye = draw(patient, 1, size=size)
        height, width, channels = eye.pixels.shape
        assert (width, channels) == (size, 3)
        assert round(0.667 * size) <= height <= size
        assert eye.pixels.dtype == np.uint8
        assert eye.lesion_mask.shape == (height, width)
        bright = eye.pixels.max(axis=2)
        corners = bright[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.max() < 20
        assert bright[height // 2, width // 2] > 40


def test_lesions_are_masked_from_grade_1_on_and_lie_in_the_field() -> None:
    for patient in range(12):
        for grade in range(5):
            eye = draw(patient, grade, size=64)
            assert eye.lesion_mask.any() == (grade > 0), (patient, grade)
            assert eye.pixels.max(axis=2)[eye.lesion_mask].min(initial=255) > 8, (patient, grade)


def test_lesions_cover_more_of_the_retina_from_grade_to_grade() -> None:
    area = [np.mean([draw(patient, grade, size=128).lesion_mask.mean() for patient in range(12)]) for grade in range(4)]
    assert area[0] == 0
    assert area[1] < 0.01
    assert area[2] > 2 * area[1]
    assert area[3] > 2 * area[2]


def test_a_microaneurysm_is_small_but_survives_at_224_pixels() -> None:
    for patient in range(4):
        healthy, mild = draw(patient, 0, size=224), draw(patient, 1, size=224)
        green = healthy.pixels[..., 1].astype(int) - mild.pixels[..., 1]
        assert green[mild.lesion_mask].max() > 12  # above the sensor's noise
        assert mild.lesion_mask.sum() < 11 * 25  # at most ten of them, 1/60 of the field across


@pytest.mark.parametrize("eye", ["left", "right"])
def test_the_disc_is_on_the_nasal_side(eye: str) -> None:
    for patient in range(8):
        pixels = draw(patient, 0, eye=eye, size=160).pixels.astype(float)
        green = pixels[..., 1]
        box = 9  # about the disc's radius: its brightness averaged beats any glare of a single pixel
        summed = np.cumsum(np.cumsum(np.pad(green, ((1, 0), (1, 0))), axis=0), axis=1)
        mean = summed[box:, box:] - summed[:-box, box:] - summed[box:, :-box] + summed[:-box, :-box]
        _, x = np.unravel_index(int(mean.argmax()), mean.shape)
        side = (x + box / 2) / pixels.shape[1]
        assert side > 0.6 if eye == "right" else side < 0.4, (patient, side)


def test_both_eyes_of_a_patient_share_their_colour() -> None:
    def hue(pixels: np.ndarray) -> np.ndarray:
        bright = pixels[pixels.max(axis=2) > 40].astype(float)
        return np.array([np.median(bright[:, 1] / bright[:, 0]), np.median(bright[:, 2] / bright[:, 0])])

    left = np.array([hue(draw(p, 0, eye="left", size=64).pixels) for p in range(20)])
    right = np.array([hue(draw(p, 0, eye="right", size=64).pixels) for p in range(20)])
    within = np.abs(left - right).mean(axis=0)
    between = np.abs(left - np.roll(right, 1, axis=0)).mean(axis=0)
    assert (within < 0.5 * between).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": 31}, "--size 31"),
        ({"size": 4097}, "32 to 4096"),
        ({"seed": -1}, "--seed -1"),
        ({"seed": 2**32}, "--seed"),
        ({"grade": 5}, "0, 1, 2, 3, 4"),
        ({"patient": -1}, "patient -1"),
        ({"eye": "both"}, "'left' or 'right'"),
    ],
)
def test_an_impossible_eye_is_refused(arguments: dict[str, object], words: str) -> None:
    right = {"patient": 0, "eye": "left", "grade": 0, "size": 64, "seed": 0}
    with pytest.raises(UsageError, match=words):
        draw_eye(**{**right, **arguments})  # type: ignore[arg-type]  # wrong on purpose


def test_pixel_and_retinal_coordinates_are_inverse() -> None:
    for mirrored in (False, True):
        view = View(90, 70, (44.0, 36.5), 38.0, mirrored, 0.13, (0.04, -0.07))
        u, v = view.retinal_coordinates()
        pixels = view.to_pixels(np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64))
        x, y = np.meshgrid(np.arange(90) + 0.5, np.arange(70) + 0.5)
        assert np.allclose(pixels, np.stack([x.ravel(), y.ravel()], axis=1), atol=1e-3)


def test_vessels_spare_the_fovea() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        anatomy = grow_anatomy(rng, draw_traits(rng))
        assert 60 < len(anatomy.vessels) < 600
        for vessel in anatomy.vessels:
            assert np.hypot(*(vessel.points - np.array(anatomy.fovea)).T).min() >= 0.13


# --- the ICDR scale


@given(seed=st.integers(0, 2**32 - 1), grade=st.integers(0, 4))
@settings(max_examples=300, deadline=None)
def test_planned_lesions_mean_their_grade(seed: int, grade: int) -> None:
    plan = plan_lesions(grade, np.random.default_rng(seed))
    assert plan.grade() == grade
    others = (*plan.haemorrhages, plan.exudate_clusters, plan.cotton_wool_spots, *plan.irma, *plan.beaded_quadrants)
    if grade == 0:
        assert not any(plan.microaneurysms)
    if grade == 1:
        assert any(plan.microaneurysms)
        assert not any(others)
    if grade == 2:
        assert max(plan.haemorrhages) < MANY_HAEMORRHAGES
        assert any(others)


def test_haemorrhages_lie_in_the_quadrant_they_were_planned_for() -> None:
    from retino_cli.data.synth_lesions import draw_lesions
    from retino_cli.data.synth_plan import LesionPlan

    rng = np.random.default_rng(1)
    traits = draw_traits(rng)
    view, anatomy = frame_view(rng, traits, size=128, mirrored=True), grow_anatomy(rng, traits)
    layers = draw_lesions(LesionPlan(haemorrhages=(25, 22, 1, 0)), rng, view, anatomy)
    assert np.bincount(quadrant_of(np.array(layers.centres)), minlength=4).tolist() == [25, 22, 1, 0]


# --- grades of patients


@given(
    patients=st.integers(1, 300),
    weights=st.lists(st.integers(0, 100), min_size=5, max_size=5).filter(any),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_dealt_grades_have_exactly_the_counts_of_the_distribution(patients: int, weights: list[int], seed: int) -> None:
    shares = normalised(weights)
    counts = count_grades(2 * patients, shares)
    dealt = deal_grades(np.random.default_rng(seed), patients, shares)
    assert dealt.shape == (patients, 2)
    assert np.bincount(dealt.ravel(), minlength=5).tolist() == counts.tolist()
    assert np.abs(counts - 2 * patients * np.array(shares)).max() < 5
    positive = np.array(shares) > 0
    assert not counts[~positive].any()
    if 2 * patients >= positive.sum():
        assert (counts[positive] > 0).all()


def test_eyes_agree_about_as_often_as_in_eyepacs() -> None:
    dealt = deal_grades(np.random.default_rng(0), 5000, EYEPACS_DISTRIBUTION)
    assert (dealt[:, 0] == dealt[:, 1]).mean() == pytest.approx(1 - DISCORDANT, abs=0.001)
    assert np.abs(np.bincount(dealt[:, 0], minlength=5) / 5000 - EYEPACS_DISTRIBUTION).max() < 0.02


def test_forty_patients_have_every_grade_in_train_and_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "_write_picture", lambda *args, **kwargs: None)  # the labels are enough
    dataset = write_dataset(tmp_path / "d", patients=40, workers=1)
    assert dataset.grade_counts["train"] == (47, 4, 10, 2, 1)
    assert min(dataset.grade_counts["test"]) == 1
    assert sum(dataset.grade_counts["test"]) == 16


# --- the folder


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(dataset: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    again = write_dataset(
        tmp_path / "again",
        patients=12,
        size=64,
        seed=5,
        masks=True,
        workers=2,
        on_progress=lambda n, of: seen.append((n, of)),
    )
    assert digests(again.folder) == digests(dataset)
    assert seen == [(n, 24) for n in range(1, 25)]


def test_what_goes_wrong_in_a_process_is_raised_here() -> None:
    with pytest.raises(ZeroDivisionError):
        list(synth_pool.write_all(partial(operator.truediv, 1), [1, 0], 2))  # fails on 0
    with pytest.raises(DataError, match="drawing process ended") as caught:
        list(synth_pool.write_all(os._exit, [3, 3], 2))  # dies without a word
    assert "workers=1" in caught.value.hint


def test_another_seed_gives_other_bytes(dataset: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path / "other", patients=12, size=64, seed=6, masks=True, workers=1)
    mine, theirs = digests(dataset), digests(other.folder)
    shared = [name for name in mine.keys() & theirs.keys() if name.endswith(".jpeg")]
    assert shared
    assert all(mine[name] != theirs[name] for name in shared)


def test_label_files_name_every_picture_once_and_no_patient_twice(dataset: Path) -> None:
    train, test = rows(dataset / "trainLabels.csv"), rows(dataset / "retinopathy_solution.csv")
    assert list(train[0]) == ["image", "level"]
    assert list(test[0]) == ["image", "level", "Usage"]
    assert {row["Usage"] for row in test} == {"Private"}
    assert len(train) + len(test) == 24
    for split, labels in (("train", train), ("test", test)):
        assert sorted(row["image"] for row in labels) == sorted(path.stem for path in (dataset / split).iterdir())
        assert all(re.fullmatch(r"synthetic-\d{5}_(left|right)", row["image"]) for row in labels)
        for row in labels:
            with Image.open(dataset / split / f"{row['image']}.jpeg") as picture:
                assert picture.format == "JPEG"
                assert picture.width == 64
            with Image.open(dataset / "masks" / f"{row['image']}.png") as mask:
                assert mask.size == picture.size
                assert (np.asarray(mask) > 0).any() == (row["level"] != "0")
    patients = [{row["image"].rsplit("_", 1)[0] for row in labels} for labels in (train, test)]
    assert not patients[0] & patients[1]
    assert len(patients[0] | patients[1]) == 12


def test_everything_says_that_it_is_synthetic(dataset: Path) -> None:
    for path in [*dataset.glob("train/*"), *dataset.glob("test/*")]:
        assert path.name.startswith("synthetic-")
        with Image.open(path) as picture:
            for note in (picture.getexif()[0x010E], picture.info["comment"].decode()):
                assert note.startswith("SYNTHETIC")
                assert "not a photograph" in note
                assert "not for clinical use" in note
                assert "seed 5" in note
    for path in dataset.glob("masks/*"):
        with Image.open(path) as mask:
            assert "SYNTHETIC" in mask.info["Description"]
    readme = (dataset / "README.md").read_text(encoding="utf-8")
    assert "not photographs, not for clinical use" in readme
    assert "retino data synth DIR --patients 12 --size 64 --seed 5 --masks" in readme
    marker = json.loads((dataset / "synthetic.json").read_text(encoding="utf-8"))
    assert marker["synthetic"] is True
    assert marker["complete"] is True


def test_the_same_data_set_is_not_drawn_twice_and_another_one_replaces_it(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    first = write_dataset(folder, patients=3, size=32, workers=1)
    assert (first.images, first.drawn) == (6, 6)
    assert write_dataset(folder, patients=3, size=32, workers=1).drawn == 0
    next(folder.glob("train/*")).unlink()
    assert write_dataset(folder, patients=3, size=32, workers=1).drawn == 6
    second = write_dataset(folder, patients=2, size=32, seed=1, test_fraction=0, workers=1)
    assert second.grade_counts.keys() == {"train"}
    assert len(list(folder.glob("train/*"))) == 4
    assert not (folder / "test").exists()
    assert not (folder / "retinopathy_solution.csv").exists()


def test_a_run_that_breaks_off_leaves_no_labels_and_is_drawn_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(folder, patients=4, size=32, workers=1, on_progress=stop)
    assert not list(folder.glob("*.csv"))
    assert json.loads((folder / "synthetic.json").read_text())["complete"] is False
    assert write_dataset(folder, patients=4, size=32, workers=1).drawn == 8
    assert (folder / "trainLabels.csv").is_file()


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "photograph.jpeg").write_bytes(b"mine")
    before = digests(tmp_path)
    with pytest.raises(DataError, match="not empty") as caught:
        write_dataset(tmp_path, patients=1, size=32)
    assert "empty folder" in caught.value.hint
    assert digests(tmp_path) == before
    with pytest.raises(DataError, match="is a file"):
        write_dataset(tmp_path / "train" / "photograph.jpeg", patients=1, size=32)


def test_a_foreign_file_in_our_folder_survives_redrawing(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_dataset(folder, patients=1, size=32, workers=1)
    (folder / "train" / "notes.txt").write_text("keep")
    write_dataset(folder, patients=1, size=32, seed=1, workers=1)
    assert (folder / "train" / "notes.txt").read_text() == "keep"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(DataError, match="synthetic-00000_left.jpeg: the disk is full") as caught:
        write_dataset(tmp_path / "data", patients=1, size=32, workers=1)
    assert "--patients" in caught.value.hint
    assert not list((tmp_path / "data").glob("*.csv"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patients": 0}, "--patients 0"),
        ({"size": 16}, "--size 16"),
        ({"test_fraction": 1.0}, "--test-fraction 1"),
        ({"test_fraction": float("nan")}, "--test-fraction nan"),
        ({"workers": 0}, "--workers 0"),
        ({"grade_distribution": (1, 2, 3)}, "five shares"),
        ({"grade_distribution": (1, 1, 1, 1, -1)}, "none negative"),
        ({"grade_distribution": (0, 0, 0, 0, 0)}, "not all zero"),
    ],
)
def test_impossible_data_sets_are_refused_before_anything_is_written(
    arguments: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        write_dataset(tmp_path / "data", **{"patients": 2, "size": 32, **arguments})  # type: ignore[arg-type]  # on purpose
    assert not (tmp_path / "data").exists()


# --- learnable, but not trivially


def test_grades_can_be_seen_in_the_pixels_but_not_in_the_mean_colour() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    texture, colour, grades = [], [], []
    for patient in range(120):
        grade = patient % 5
        pixels = draw(patient, grade, size=128).pixels.astype(float)
        inside = pixels.max(axis=2) > 40
        green = pixels[..., 1] / pixels[..., 1][inside].mean()
        rough = (np.pad(green, 3, mode="edge")[:-6, :-6] - green)[inside]
        texture.append([*np.percentile(rough, [1, 3, 10, 90, 97, 99]), rough.std(), (rough > 0.25).mean()])
        colour.append([*pixels[inside].mean(axis=0), *np.median(pixels[inside], axis=0)])
        grades.append(grade)
    judge = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    referable = np.array(grades) >= 2  # 60 %
    by_texture = cross_val_score(judge, texture, referable, cv=5, scoring="balanced_accuracy").mean()
    by_colour = cross_val_score(judge, colour, referable, cv=5, scoring="balanced_accuracy").mean()
    assert by_texture > 0.7
    assert by_colour < 0.7
