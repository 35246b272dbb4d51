"""Synthetic fundus photographs: drawn, labelled by the ICDR scale, and never to be taken for real ones.

They make every command runnable without any download, and give tests a truth that real data lacks: where the lesions
are. A picture depends on (seed, patient, eye, grade, size) alone: any number of processes writes the same bytes.

The parts: `synth_plan` decides which lesions a grade has, `synth_anatomy` grows the healthy eye, `synth_lesions` draws
the lesions, `synth_paint` turns both into a photograph, `synth_grades` deals grades to patients, `synth_folder` writes
them, in the processes of `synth_pool`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from retino_cli.data import drawn_folder, synth_folder
from retino_cli.data.synth_anatomy import draw_traits, frame_view, grow_anatomy
from retino_cli.data.synth_folder import Parameters, Picture
from retino_cli.data.synth_grades import EYEPACS_DISTRIBUTION, check_distribution, deal_grades
from retino_cli.data.synth_lesions import draw_lesions
from retino_cli.data.synth_paint import paint_retina, photograph
from retino_cli.data.synth_plan import plan_lesions
from retino_cli.data.synth_pool import choose_workers, write_all
from retino_cli.errors import UsageError
from retino_cli.grades import GRADES

DRAWING: Final = 1
"""Version of the drawing: raised whenever the same seed gives other pictures than before."""

MIN_SIZE: Final = 32
MAX_SIZE: Final = 4096
_MAX_SEED: Final = 2**32 - 1

_LEFT, _RIGHT, _BOTH, _DATASET = range(4)
_TRAITS, _ANATOMY, _LESIONS, _CAMERA, _PAINT, _GRADES = range(6)


@dataclass(frozen=True)
class SyntheticEye:
    """A drawn photograph and the truth about it."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) RGB; W is the size that was asked for, H between 2/3 of it and all of it, as cameras differ."""
    lesion_mask: NDArray[np.bool_]
    """(H, W): true where the picture shows a lesion of diabetic retinopathy; all false at grade 0. The diffuse
    darkening by a vitreous haemorrhage is left out, as it has no place."""
    grade: int
    eye: Literal["left", "right"]
    patient: int


@dataclass(frozen=True)
class SyntheticDataset:
    """What `write_dataset` left in its folder."""

    folder: Path
    patients: int
    size: int
    seed: int
    images: int
    drawn: int
    """Pictures that this call drew: all of them, or 0 where the same data set was there already."""
    grade_counts: dict[str, tuple[int, ...]]
    """Pictures per grade 0..4, for "train" and, if there is one, "test"."""
    masks: bool


def draw_eye(*, patient: int, eye: Literal["left", "right"], grade: int, size: int, seed: int) -> SyntheticEye:
    """Draw one eye of a synthetic patient.

    Both eyes of a patient share pigment, proportions and camera, but not vessels, lesions, light or noise. The optic
    disc is on the right of a right eye and on the left of a left one, as the photographer sees them. The same eye at
    another grade has the same vessels.

    Args:
        patient: number of the patient, 0 or more.
        eye: "left" or "right".
        grade: ICDR grade 0..4.
        size: width in pixels, 32..4096.
        seed: 0..2**32 - 1.

    Raises:
        UsageError: an argument outside its range.
    """
    _check_drawing(size=size, seed=seed)
    if patient < 0:
        raise UsageError(f"patient {patient}: must be 0 or more")
    if eye not in ("left", "right"):
        raise UsageError(f"eye {eye!r}: must be 'left' or 'right'")
    if grade not in GRADES:
        raise UsageError(f"grade {grade!r}: must be one of 0, 1, 2, 3, 4")
    stream = partial(_stream, seed, patient, _LEFT if eye == "left" else _RIGHT)
    traits = draw_traits(_stream(seed, patient, _BOTH, _TRAITS))
    camera, lesions = stream(_CAMERA), stream(_LESIONS)
    view = frame_view(camera, traits, size=size, mirrored=eye == "left")
    anatomy = grow_anatomy(stream(_ANATOMY), traits)
    plan = plan_lesions(grade, lesions)
    layers = draw_lesions(plan, lesions, view, anatomy)
    light = paint_retina(stream(_PAINT), traits, view, anatomy, layers)
    pixels, field = photograph(camera, traits, view, light, vitreous=plan.vitreous_haemorrhage)
    return SyntheticEye(pixels, layers.mask() & field, grade, eye, patient)


def write_dataset(
    folder: Path,
    *,
    patients: int,
    size: int = 512,
    seed: int = 0,
    grade_distribution: Sequence[float] | None = None,
    test_fraction: float = 0.2,
    masks: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> SyntheticDataset:
    """Write a synthetic data set in the layout of Kaggle EyePACS: both eyes of every patient, as JPEGs, with labels.

    Train and test are split by patient; test has ``round(test_fraction * patients)`` of them (at least one where
    there are two patients and the fraction is not 0), all of usage "Private". In each split the grades are dealt, not
    drawn by chance (see `synth_grades.deal_grades`): their counts are the distribution's, rounded, and every grade with
    a share above 0 occurs if the split has eyes enough. Very small sets therefore hold more of the rare grades
    than asked for.

    A folder that already holds this very data set, whole, is left as it is; another synthetic one is replaced.

    Args:
        folder: new, empty, or an earlier synthetic data set.
        patients: number of patients, 1 or more.
        size: width of the pictures in pixels, 32..4096.
        seed: 0..2**32 - 1; the same seed gives the same bytes, with the same versions of NumPy and Pillow.
        grade_distribution: five shares of the grades 0..4, scaled to sum 1; EyePACS's by default.
        test_fraction: share of the patients that go to test, 0 <= fraction < 1.
        masks: also write lesion masks, as ``masks/<image>.png``.
        on_progress: called with (pictures drawn, all pictures) after each.
        workers: processes; by default one a core where that pays. A script that uses more than one must keep its calls
            below ``if __name__ == "__main__":``.

    Raises:
        UsageError: an argument outside its range.
        DataError: the folder holds something else, or cannot be written, or the disk is full.
    """
    _check_drawing(size=size, seed=seed)
    if patients < 1:
        raise UsageError(f"--patients {patients}: must be 1 or more")
    if not 0 <= test_fraction < 1:
        raise UsageError(f"--test-fraction {test_fraction:g}: must be at least 0 and less than 1")
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: must be 1 or more")
    shares = check_distribution(EYEPACS_DISTRIBUTION if grade_distribution is None else grade_distribution)
    parameters = Parameters(patients, size, seed, shares, float(test_fraction), masks, DRAWING)
    pictures = _list_pictures(parameters)

    drawn = 0
    if not synth_folder.is_complete(folder, parameters, pictures):
        synth_folder.claim_folder(folder, parameters, pictures)
        write = partial(_write_picture, folder=folder.resolve(), size=size, seed=seed, masks=masks)
        processes = choose_workers(workers, len(pictures), seconds=0.02 + 2e-7 * size * size)
        with closing(write_all(write, pictures, processes)) as written:
            for _ in written:
                drawn += 1
                if on_progress is not None:
                    on_progress(drawn, len(pictures))
        synth_folder.finish_folder(folder, parameters, pictures)
    counts = synth_folder.grade_counts(pictures)
    return SyntheticDataset(folder, patients, size, seed, len(pictures), drawn, counts, masks)


def _stream(seed: int, patient: int, eye: int, topic: int) -> np.random.Generator:
    """An independent random stream per topic: what one of them uses up changes nothing in the others."""
    return np.random.default_rng((seed, patient, eye, topic))


def _list_pictures(parameters: Parameters) -> list[Picture]:
    """Every picture of the data set, by patient."""
    rng = _stream(parameters.seed, 0, _DATASET, _GRADES)
    patients = parameters.patients
    n_test = round(parameters.test_fraction * patients)
    if parameters.test_fraction > 0 and patients > 1:
        n_test = min(max(n_test, 1), patients - 1)
    order = rng.permutation(patients)
    pictures = []
    for split, members in (("test", order[:n_test]), ("train", order[n_test:])):
        for patient, grades in zip(
            members.tolist(), deal_grades(rng, len(members), parameters.grade_distribution).tolist(), strict=True
        ):
            pictures += [Picture(patient, eye, g, split) for eye, g in zip(("left", "right"), grades, strict=True)]
    return sorted(pictures, key=lambda picture: (picture.patient, picture.eye))


def _write_picture(picture: Picture, *, folder: Path, size: int, seed: int, masks: bool) -> None:
    side: Literal["left", "right"] = "left" if picture.eye == "left" else "right"
    eye = draw_eye(patient=picture.patient, eye=side, grade=picture.grade, size=size, seed=seed)
    note = (
        f"{synth_folder.WARNING}; retino data synth, seed {seed}, patient {picture.patient}, {picture.eye} eye, "
        f"size {size}, drawing {DRAWING}"
    )
    drawn_folder.save_jpeg(eye.pixels, picture.path(folder), note=note, software="retino data synth")
    if masks:
        drawn_folder.save_mask(eye.lesion_mask.astype(np.uint8) * 255, picture.mask_path(folder), note=note)


def _check_drawing(*, size: int, seed: int) -> None:
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UsageError(f"--size {size}: must be {MIN_SIZE} to {MAX_SIZE} pixels")
    if not 0 <= seed <= _MAX_SEED:
        raise UsageError(f"--seed {seed}: must be 0 to {_MAX_SEED}")
