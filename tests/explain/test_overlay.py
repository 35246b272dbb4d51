"""Heat maps laid back onto the photograph: the right place, the right colours, the right names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retino_cli.data.retina import mask_field
from retino_cli.explain.drawing import measure_heat, read_photograph
from retino_cli.explain.files import FileNames
from retino_cli.explain.legend import LEAST_WIDTH, add_legend, describe_target, draw_legend
from retino_cli.explain.overlay import colour_heat, locate_square, overlay, place_heat
from retino_cli.preprocess import Crop, PreparedPicture, PreprocessSpec, prepare_picture

PROBABILITIES = (0.1, 0.05, 0.15, 0.6, 0.1)


def field_with_spot(width: int, height: int, *, spot: tuple[int, int], radius: int = 12) -> Image.Image:
    """A reddish disc, wider than the frame is high, in a black frame, with a bright blue spot."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    disc = (columns - 0.52 * width) ** 2 + (rows - 0.5 * height) ** 2 < (0.4 * width) ** 2
    pixels[disc] = (150, 60, 20)
    pixels[(columns - spot[0]) ** 2 + (rows - spot[1]) ** 2 < radius**2] = (150, 60, 255)
    return Image.fromarray(pixels)


def blueness(pixels: np.ndarray) -> np.ndarray:
    """A "model" whose map is known: the blue channel, (S, S) in [0, 1]."""
    heat = pixels[..., 2].astype(np.float32)
    heat[heat < 60] = 0
    return heat / heat.max()


def centre_of(heat: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(heat.shape)
    return float((columns * heat).sum() / heat.sum() + 0.5), float((rows * heat).sum() / heat.sum() + 0.5)


@pytest.mark.parametrize("crop", ["retina", "none"])
@pytest.mark.parametrize(("width", "height"), [(600, 400), (400, 600), (500, 500)])
@pytest.mark.parametrize("shown", [1.0, 0.37, 2.0])
def test_heat_comes_back_to_where_it_was_seen(
    tmp_path: Path, crop: Crop, width: int, height: int, shown: float
) -> None:
    spot = (round(0.35 * width), round(0.3 * height))
    field_with_spot(width, height, spot=spot).save(tmp_path / "a.png")
    picture = prepare_picture(str(tmp_path / "a.png"), PreprocessSpec(image_size=96, crop=crop))
    heat = blueness(picture.pixels)
    size = (round(width * shown), round(height * shown))
    placed = place_heat(heat, picture.box, crop=crop, original=(width, height), size=size)
    assert placed.shape == (size[1], size[0])
    assert placed.max() == pytest.approx(1.0, abs=0.05)
    column, row = centre_of(placed)
    assert column / shown == pytest.approx(spot[0] + 0.5, abs=1.0)  # pixels of the original; one of the input is 5
    assert row / shown == pytest.approx(spot[1] + 0.5, abs=1.0)
    peak, in_field = measure_heat(heat, picture, crop=crop)
    assert peak is not None
    assert np.hypot(peak[0] - spot[0], peak[1] - spot[1]) < 12
    assert in_field == pytest.approx(1.0)


def test_heat_outside_of_the_models_input_is_none() -> None:
    heat = np.ones((50, 50), dtype=np.float32)
    placed = place_heat(heat, (100, 50, 300, 150), crop="retina", original=(400, 300), size=(400, 300))
    assert placed[:, :100].max() == placed[:, 300:].max() == 0  # the square of 200 pixels reaches from row 0 to 199
    assert placed[200:].max() == 0
    assert placed[:200, 100:300].min() == pytest.approx(1.0)
    squeezed = place_heat(heat, (0, 0, 400, 300), crop="none", original=(400, 300), size=(200, 150))
    assert squeezed.min() == pytest.approx(1.0)


def test_the_square_is_that_of_the_preprocessing() -> None:
    assert locate_square((10, 20, 110, 60), crop="retina") == (10, -10, 100, 100)
    assert locate_square((10, 20, 51, 120), crop="retina") == (-19, 20, 100, 100)  # an odd margin: rounded down
    assert locate_square((0, 0, 400, 300), crop="none") == (0, 0, 400, 300)


@pytest.mark.parametrize("box", [(3, 8, 94, 61), (5, 2, 58, 99), (0, 0, 100, 100)])
def test_the_square_is_that_of_the_preprocessing_pixel_by_pixel(tmp_path: Path, box: tuple[int, int, int, int]) -> None:
    """Each pixel of the original says where it lies; the squared input must say the same as ``locate_square``."""
    from retino_cli.data.pictures import Decoded
    from retino_cli.data.square import cut_square

    ramp = np.zeros((100, 100, 3), dtype=np.uint8)
    ramp[..., 0], ramp[..., 1], ramp[..., 2] = np.arange(100)[None, :], np.arange(100)[:, None], 200
    decoded = Decoded(Image.fromarray(ramp), 1, 100, 100)
    pixels = cut_square(decoded, box, 64, "bilinear", torch_kernel=True)
    left, top, side, _ = locate_square(box, crop="retina")
    for row in range(4, 60, 5):
        for column in range(4, 60, 5):
            x, y = left + (column + 0.5) * side / 64 - 0.5, top + (row + 0.5) * side / 64 - 0.5
            if not (box[0] + 2 < x < box[2] - 3 and box[1] + 2 < y < box[3] - 3):
                continue
            assert pixels[row, column, :2] == pytest.approx((x, y), abs=0.8)


# -- colours -----------------------------------------------------------------------------------------------------------


def test_less_heat_is_more_transparent_and_lightness_grows() -> None:
    layer = np.asarray(colour_heat(np.linspace(0, 1, 256)[None], opacity=0.6))[0].astype(int)
    assert layer[0, 3] == 0
    assert layer[-1, 3] == 153
    assert (np.diff(layer[:, 3]) >= 0).all()
    lightness = layer[:, :3] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) >= -0.75).all()  # rounding to whole levels
    assert lightness[-1] - lightness[0] > 140


# How dichromats see colours (Viénot, Brettel and Mollon 1999, for linear RGB): long and middle cones give one signal.
_DICHROMATS = {
    "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
}


@pytest.mark.parametrize("kind", _DICHROMATS)
def test_heat_stands_out_from_a_retina_for_dichromats(kind: str) -> None:
    retina = np.array([176, 84, 40], dtype=np.uint8)
    photograph = Image.fromarray(np.broadcast_to(retina, (1, 256, 3)).copy())
    heat = np.linspace(0, 1, 256, dtype=np.float32)[None].repeat(256, axis=0)
    seen = np.asarray(overlay(photograph.resize((256, 256)), heat))[128] / 255.0
    linear = seen**2.2 @ np.array(_DICHROMATS[kind]).T
    distance = np.abs(linear - linear[0]).max(axis=1)
    assert distance[128] > 0.1
    assert distance[-1] > 0.4


def test_a_map_without_heat_changes_nothing() -> None:
    photograph = field_with_spot(80, 60, spot=(30, 20))
    drawn = overlay(photograph, np.zeros((32, 32), dtype=np.float32), (10, 0, 70, 60))
    assert drawn.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(photograph))


def test_no_metadata_comes_along(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "name of a patient"
    field_with_spot(80, 60, spot=(30, 20)).save(tmp_path / "a.jpg", exif=exif, comment=b"born in 1950")
    drawn = overlay(Image.open(tmp_path / "a.jpg"), np.ones((8, 8), dtype=np.float32))
    drawn.save(tmp_path / "b.jpg")
    assert b"patient" in (tmp_path / "a.jpg").read_bytes()
    for word in (b"patient", b"born", b"Exif"):
        assert word not in (tmp_path / "b.jpg").read_bytes()


# -- the field, the photograph -----------------------------------------------------------------------------------------


def test_heat_in_the_surround_is_told(tmp_path: Path) -> None:
    field_with_spot(600, 400, spot=(300, 200)).save(tmp_path / "a.png")
    picture = prepare_picture(str(tmp_path / "a.png"), PreprocessSpec(image_size=96, crop="none"))
    heat = np.zeros((96, 96), dtype=np.float32)
    assert measure_heat(heat, picture, crop="none") == (None, None)
    heat[:, :5] = 1.0  # left of the disc
    heat[40:50, 50:53] = 1.0  # in it
    peak, share = measure_heat(heat, picture, crop="none")
    assert share == pytest.approx(30 / (30 + 480))
    assert peak is not None
    assert peak[0] < 600 * 5 / 96


def test_a_peak_in_the_padding_is_looked_for_in_the_photograph() -> None:
    picture = PreparedPicture(np.full((10, 10, 3), 90, np.uint8), (0, 0, 100, 40), False, 100, 40, "")
    heat = np.zeros((10, 10), dtype=np.float32)
    heat[0, 5] = 1.0  # above the photograph, whose rows are the square's 3 to 6
    heat[5, 2] = 0.5
    assert measure_heat(heat, picture, crop="retina")[0] == (25, 25)


def test_the_field_is_filled_and_bounded() -> None:
    pixels = np.asarray(field_with_spot(300, 300, spot=(150, 150))).copy()
    pixels[140:160, 100:200] = 2  # dark within the field
    mask = mask_field(pixels)
    columns, rows = np.meshgrid(np.arange(300), np.arange(300))
    disc = (columns - 156) ** 2 + (rows - 150) ** 2 < 120**2
    assert (mask != disc).mean() < 0.01
    assert mask_field(np.full((20, 20, 3), 120, np.uint8)).all()
    assert mask_field(np.zeros((20, 20, 3), np.uint8)).all()


@pytest.mark.parametrize(
    ("width", "height", "size", "expected"),
    [(2000, 1500, 500, (500, 375)), (600, 400, 1024, (600, 400)), (40, 30, 1024, (320, 240)), (40, 30, 64, (64, 48))],
)
def test_photographs_are_made_smaller_and_tiny_ones_larger(
    tmp_path: Path, width: int, height: int, size: int, expected: tuple[int, int]
) -> None:
    image = Image.new("RGB", (width, height), (200, 80, 20))
    image.paste((20, 20, 220), (0, 0, width // 2, height))
    for name in ("a.jpg", "a.png"):
        image.save(tmp_path / name)
        photograph = read_photograph(str(tmp_path / name), size=size)
        assert photograph.size == expected
        assert np.asarray(photograph)[:, expected[0] // 4, 2].min() > 180
        assert np.asarray(photograph)[:, 3 * expected[0] // 4, 0].min() > 180


# -- legend, names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [LEAST_WIDTH, 700, 4000])
@pytest.mark.parametrize("target", ["referable", 0, 4])
def test_a_legend_fits_any_width_and_differs_with_what_it_says(width: int, target: str | int) -> None:
    legend = draw_legend(width, probabilities=PROBABILITIES, target=target, empty=False)
    assert legend.width == width
    assert legend.height < 300
    pixels = np.asarray(legend).astype(int)
    border = np.concatenate([pixels[:, :2].reshape(-1, 3), pixels[:, -2:].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
    assert np.abs(border - pixels[0, 0]).max() == 0  # nothing is cut off
    other = draw_legend(width, probabilities=PROBABILITIES[::-1], target=target, empty=False)
    empty = draw_legend(width, probabilities=PROBABILITIES, target=target, empty=True)
    assert len({picture.tobytes() for picture in (legend, other, empty)}) == 3
    whole = add_legend(Image.new("RGB", (200, 100), (250, 0, 0)), legend)
    assert whole.size == (width, 100 + legend.height)


def test_targets_in_words() -> None:
    assert describe_target(3) == "grade 3, Severe NPDR"
    assert describe_target("referable") == "referable DR"


def test_every_image_has_a_name_of_its_own() -> None:
    names = FileNames()
    given = [
        "a/left.jpg",
        "b/left.jpeg",
        "c/LEFT.png",
        "d/left-2.jpg",
        "e\\w:x.jpg",
        "d.npz#test/12",
        "..jpg",
        "\udcff.jpg",
    ]
    chosen = [names.choose(name) for name in given]
    assert chosen[:4] == ["left.gradcam", "left-2.gradcam", "LEFT-3.gradcam", "left-2-2.gradcam"]
    assert chosen[4:6] == ["w_x.gradcam", "d-test-12.gradcam"]
    assert len({name.casefold() for name in chosen}) == len(given)
    assert all("/" not in name and not name.startswith(".") and name.isprintable() for name in chosen)
    assert len(names.choose("é" * 300 + ".jpg").encode()) < 200
