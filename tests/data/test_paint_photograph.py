"""One painted photograph: where it changes, where it stays, and what is known about it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from retino_cli.data import paint_photograph as module
from retino_cli.data.paint_photograph import (
    BLOOD_BIT,
    BRIGHT_BIT,
    FINE_BIT,
    POOL_BIT,
    HealthyPhotograph,
    paint_photograph,
)
from retino_cli.data.synth import draw_eye
from retino_cli.data.synth_plan import LesionPlan
from retino_cli.errors import DataError, UsageError

SIZE = 224


@pytest.fixture(scope="module")
def background() -> np.ndarray:
    """A drawn right eye in a square."""
    pixels = draw_eye(patient=2, eye="right", grade=0, size=SIZE, seed=1).pixels
    square = np.zeros((SIZE, SIZE, 3), np.uint8)
    top = (SIZE - len(pixels)) // 2
    square[top : top + len(pixels)] = pixels
    return square


@pytest.fixture(scope="module")
def healthy(background: np.ndarray) -> HealthyPhotograph:
    return HealthyPhotograph.measure(background)


@pytest.mark.parametrize("grade", range(5))
def test_only_the_field_changes_and_grade_0_has_no_lesion(healthy: HealthyPhotograph, grade: int) -> None:
    rows = slice(healthy.top, healthy.top + len(healthy.field))
    for seed in range(4):
        eye = paint_photograph(healthy, grade, np.random.default_rng(seed))
        assert eye.grade == grade
        assert eye.masks.any() == (grade > 0)
        assert np.array_equal(eye.pixels[rows][~healthy.field], healthy.pixels[rows][~healthy.field])
        assert not eye.masks[rows][~healthy.field].any()


def test_pixels_change_where_the_masks_say(healthy: HealthyPhotograph) -> None:
    inside = near = 0.0
    for seed in range(8):
        eye = paint_photograph(healthy, 2, np.random.default_rng(seed))
        change = np.abs(eye.pixels.astype(int) - healthy.pixels).max(axis=2)
        wide = np.asarray(Image.fromarray(eye.masks).filter(ImageFilter.MaxFilter(15))) > 0
        inside += change[eye.masks > 0].mean()
        near += change[~wide].mean()  # dust and drusen may lie here, and nothing else
    assert inside / 8 > 10
    assert near / 8 < 1


def test_blood_darkens_and_exudates_brighten(healthy: HealthyPhotograph) -> None:
    green: dict[int, list[float]] = {BLOOD_BIT: [], BRIGHT_BIT: []}
    for seed in range(12):
        eye = paint_photograph(healthy, 2, np.random.default_rng(seed))
        change = eye.pixels[..., 1].astype(int) - healthy.pixels[..., 1]
        for bit, changes in green.items():
            changes += change[eye.masks == bit].tolist()
    assert np.mean(green[BLOOD_BIT]) < -5
    assert np.mean(green[BRIGHT_BIT]) > 5


@pytest.mark.parametrize(
    ("plan", "bit"),
    [
        (LesionPlan(microaneurysms=(3, 3, 3, 3)), BLOOD_BIT),
        (LesionPlan(haemorrhages=(2, 2, 2, 2)), BLOOD_BIT),
        (LesionPlan(exudate_clusters=3), BRIGHT_BIT),
        (LesionPlan(cotton_wool_spots=3), BRIGHT_BIT),
        (LesionPlan(irma=(2, 0, 0, 2)), FINE_BIT),
        (LesionPlan(new_vessels_disc=True), FINE_BIT),
        (LesionPlan(new_vessels_elsewhere=2), FINE_BIT),
        (LesionPlan(preretinal_haemorrhages=2), POOL_BIT),
    ],
)
def test_each_kind_of_lesion_sets_its_bit_alone(
    plan: LesionPlan, bit: int, healthy: HealthyPhotograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_plan", lambda _grade, _rng: plan)
    for seed in range(3):
        masks = paint_photograph(healthy, plan.grade(), np.random.default_rng(seed)).masks
        assert set(np.unique(masks)) == {0, bit}


def test_the_same_stream_paints_the_same_and_the_photograph_stays(healthy: HealthyPhotograph) -> None:
    before = healthy.pixels.copy(), healthy.light.copy()
    first, second = (paint_photograph(healthy, 3, np.random.default_rng(9)) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.masks, second.masks)
    assert np.array_equal(healthy.pixels, before[0])
    assert np.array_equal(healthy.light, before[1])


def test_the_disc_is_found_on_either_side() -> None:
    picture = Image.new("RGB", (SIZE, SIZE))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((0, 0, SIZE - 1, SIZE - 1), fill=(150, 80, 40))
    draw.ellipse((160, 96, 190, 126), fill=(240, 190, 110))  # its middle 63 pixels right of the centre, of 112
    pixels = np.asarray(picture)
    right = HealthyPhotograph.measure(pixels)
    left = HealthyPhotograph.measure(np.ascontiguousarray(pixels[:, ::-1]))
    assert right.disc == pytest.approx((63 / 112, -1 / 112), abs=0.02)
    assert left.disc == pytest.approx((-63 / 112, -1 / 112), abs=0.02)
    assert left.view().mirrored
    assert not right.view().mirrored
    assert left.anatomy().fovea == pytest.approx(right.anatomy().fovea, abs=0.03)
    assert right.radius == pytest.approx(112, abs=1)


def test_what_cannot_be_painted(healthy: HealthyPhotograph) -> None:
    with pytest.raises(UsageError, match="grade 5"):
        paint_photograph(healthy, 5, np.random.default_rng(0))
    thin = np.zeros((SIZE, SIZE, 3), np.uint8)
    thin[:, 100:108] = 200  # a stripe is no field
    with pytest.raises(DataError, match="no retina"):
        HealthyPhotograph.measure(thin)
