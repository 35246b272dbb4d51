"""One image's explanation: the photograph is read once more, the map laid over it and measured, the files written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import numpy as np
from PIL import Image

from retino_cli.data.pictures import EncodedPicture, decode
from retino_cli.data.retina import mask_field
from retino_cli.errors import DataError, UsageError
from retino_cli.evaluation.prediction import DecodedImage
from retino_cli.evaluation.prediction_files import ImagePrediction
from retino_cli.explain.files import Explanation, MapFormat, PictureFormat, save_map, save_overlay
from retino_cli.explain.gradcam import NamedTarget, parse_target
from retino_cli.explain.legend import LEAST_WIDTH, add_legend, draw_legend
from retino_cli.explain.overlay import locate_square, overlay
from retino_cli.preprocess import Crop, PreparedPicture

DEFAULT_SIZE: Final = 1024
SMALLEST_SIZE: Final = 64
LARGEST_SIZE: Final = 8192


@dataclass(frozen=True)
class ExplainOptions:
    """What is explained, and how it is drawn.

    ``target``: "predicted", "referable" or a grade 0..4. ``size``: the photograph's longer side, in pixels, is made at
    most this long. ``picture_format``, ``map_format``: of the overlays and of the raw maps. ``legend``: draw one below.

    Raises ``UsageError`` for a value that is none of these.
    """

    target: NamedTarget | int = "predicted"
    size: int = DEFAULT_SIZE
    picture_format: PictureFormat = "jpeg"
    map_format: MapFormat = "none"
    legend: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", parse_target(str(self.target)))
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise UsageError(f"--size {self.size} is out of range: {SMALLEST_SIZE} to {LARGEST_SIZE} pixels.")
        for flag, value, choices in (
            ("--image-format", self.picture_format, get_args(PictureFormat)),
            ("--maps", self.map_format, get_args(MapFormat)),
        ):
            if value not in choices:
                raise UsageError(f"{flag} {value}: choose one of {', '.join(choices)}.")


def draw_explanation(
    one: DecodedImage,
    prediction: ImagePrediction,
    heat: np.ndarray | None,
    place: Path,
    crop: Crop,
    options: ExplainOptions,
) -> Explanation:
    """Write the overlay, and the raw map where asked for, as ``place`` with an ending; nothing without ``heat``."""
    picture, probabilities = one.picture, prediction.probabilities
    if heat is None or picture is None or probabilities is None or prediction.grade is None:
        return Explanation(prediction, error=prediction.error)
    try:
        photograph = read_photograph(one.image.source, size=options.size)
    except DataError as error:  # gone since it was read for the model
        return Explanation(prediction, error=error.message)
    drawn = overlay(photograph, heat, picture.box, crop=crop, original=(picture.width, picture.height))
    target = prediction.grade if options.target == "predicted" else options.target
    peak, in_field = measure_heat(heat, picture, crop=crop)
    if options.legend:
        width = max(drawn.width, LEAST_WIDTH)
        drawn = add_legend(
            drawn, draw_legend(width, probabilities=probabilities, target=target, empty=peak is None)
        )  # fmt: skip
    return Explanation(
        prediction,
        overlay=save_overlay(drawn, place.parent, place.name, options.picture_format),
        map=save_map(heat, place.parent, place.name, options.map_format),
        explained=f"grade {target}" if isinstance(target, int) else target,
        peak=peak,
        in_field=in_field,
        box=picture.box,
    )


def read_photograph(source: str | EncodedPicture, *, size: int) -> Image.Image:
    """The whole photograph, upright, mode RGB, its longer side at most ``size`` pixels; small ones are enlarged to the
    width of a legend. Raises ``DataError`` where it cannot be read."""

    def choose_scale(width: int, height: int) -> int:
        return next(scale for scale in (8, 4, 2, 1) if scale == 1 or max(width, height) >= size * scale)

    decoded = decode(source, choose_scale)
    longer = max(decoded.width, decoded.height)
    factor = min(size, max(longer, LEAST_WIDTH)) / longer
    wanted = (max(1, round(decoded.width * factor)), max(1, round(decoded.height * factor)))
    if wanted == decoded.image.size:
        return decoded.image
    whole = (0.0, 0.0, decoded.width / decoded.scale, decoded.height / decoded.scale)
    return decoded.image.resize(wanted, Image.Resampling.BICUBIC, box=whole)


def measure_heat(
    heat: np.ndarray, picture: PreparedPicture, *, crop: Crop
) -> tuple[tuple[int, int] | None, float | None]:
    """Where the hottest pixel of the photograph is (column, row of the original), and the share of the heat, 0..1, that
    lies in the round field; None for both where there is no heat.

    Heat in the black surround, or in the padding beyond the photograph, is a warning: there is no retina there.
    """
    total = float(heat.sum(dtype=np.float64))
    if total == 0.0:
        return None, None
    left, top, width, height = locate_square(picture.box, crop=crop)
    columns = left + (np.arange(heat.shape[1]) + 0.5) * width / heat.shape[1]
    rows = top + (np.arange(heat.shape[0]) + 0.5) * height / heat.shape[0]
    inside = ((rows >= 0) & (rows < picture.height))[:, None] & ((columns >= 0) & (columns < picture.width))
    row, column = np.unravel_index(int(np.where(inside, heat, -1.0).argmax()), heat.shape)
    share = float(heat[mask_field(picture.pixels)].sum(dtype=np.float64)) / total
    return (int(columns[column]), int(rows[row])), min(share, 1.0)
