"""``explain_images(run, sources)``: what a run's grader looks at in each image, as pictures in a folder.

Pictures are decoded ahead of the model, and overlays are drawn behind it, by threads; at most two batches are on their
way at any time, however many images there are.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from retino_cli.data.image_list import ImageList, NamedImage
from retino_cli.data.labelled import to_device
from retino_cli.data.pixels import count_cores
from retino_cli.errors import UsageError
from retino_cli.evaluation.grader import Grader, open_grader
from retino_cli.evaluation.inference import BATCH_SIZE
from retino_cli.evaluation.prediction import DecodedImage, decode_ahead, in_batches, predict_batch
from retino_cli.evaluation.prediction_files import ImagePrediction
from retino_cli.explain.drawing import ExplainOptions, draw_explanation
from retino_cli.explain.files import Explanation, FileNames, check_folder, writing_index
from retino_cli.explain.gradcam import NamedTarget, heat_maps
from retino_cli.models.ensemble import Ensemble
from retino_cli.models.structure import target_layer
from retino_cli.training.events import Listener, Preparing, ignore

_NAMED: Final = 3


@dataclass(frozen=True)
class ExplanationReport:
    """What was done.

    ``images``: rows of the index, ``errors`` of them without a map, ``examples`` being the first few; ``empty``: maps
    that are 0 everywhere. ``in_field``: mean share of the heat that lies in the field, None without any map. ``tta``:
    the run averages eight views, and the maps are of the first of them, the picture as it is.
    """

    run_id: str
    run_name: str
    out: str
    target: str
    images: int
    errors: int
    examples: tuple[str, ...]
    empty: int
    in_field: float | None
    tta: bool
    seconds: float
    device: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"examples": list(self.examples)}


def explain_images(
    run: str,
    sources: Sequence[str | Path],
    *,
    out: Path,
    options: ExplainOptions | None = None,
    limit: int | None = None,
    image_column: str | None = None,
    images: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool | None = None,
    workers: int | None = None,
    tracking_uri: str | None = None,
    listen: Listener = ignore,
) -> ExplanationReport:
    """Draw Grad-CAM heat maps of the images that ``sources`` name, by the best checkpoint of training ``run``;
    of repeats, the mean over their seeds.

    ``out``, a folder that is new, empty or of an earlier call, gets an overlay for each image, and ``explain.csv``
    (:class:`~retino_cli.explain.files.Explanation`) when all is done. ``limit``: the first so many images.
    ``sources``, ``image_column`` and ``images`` are those of :class:`~retino_cli.data.image_list.ImageList`; precision
    and ``tta`` are those of the probabilities, which equal ``predict``'s; maps are always float32, of the picture as it
    is. Nothing is stored in MLflow.

    Raises :class:`~retino_cli.errors.RetinoError` for an unknown run, sources that do not exist or hold no image, a
    network without a map, and a folder that cannot be written or holds something else.
    """
    options = ExplainOptions() if options is None else options
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be at least 1.")
    wanted = ImageList(sources, image_column=image_column, images=images)
    check_folder(out, wanted.sources)
    total = sum(1 for _ in islice(wanted, limit))
    grader = open_grader(run, device=device, precision=precision, tta=tta, tracking_uri=tracking_uri)
    network = grader.model.members[0] if isinstance(grader.model, Ensemble) else grader.model
    target_layer(network, image_size=grader.spec.image_size)  # before anything is written
    counted = _Counter(total, listen)
    began = time.perf_counter()
    with writing_index(out) as write:
        rows = explain_each(grader, islice(wanted, limit), out=out, options=options, workers=workers)
        with closing(rows):
            for row in rows:
                write(row)
                counted.add(row)
    return ExplanationReport(
        run_id=grader.record.run_id,
        run_name=grader.record.name,
        out=str(out),
        target=str(options.target),
        images=counted.images,
        errors=counted.errors,
        examples=tuple(counted.examples),
        empty=counted.empty,
        in_field=None if counted.with_heat == 0 else counted.in_field / counted.with_heat,
        tta=grader.tta,
        seconds=time.perf_counter() - began,
        device=grader.runtime.name,
    )


def explain_each(
    grader: Grader,
    images: Iterable[NamedImage],
    *,
    out: Path,
    options: ExplainOptions,
    workers: int | None = None,
) -> Generator[Explanation, None, None]:
    """Yield an explanation for each image, in order, its files being written to the folder ``out``. Close it to stop
    early."""
    workers = workers or count_cores()
    names = FileNames()
    drawing: list[Future[Explanation]] = []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="draw")
    try:
        with closing(decode_ahead(images, grader.spec, workers)) as decoded:
            for batch in in_batches(decoded):
                predictions = predict_batch(grader, batch)
                maps = _compute_maps(grader, batch, predictions, options.target)
                for done in drawing:  # those of the batch before were drawn while the model worked
                    yield done.result()
                drawing = []
                for one, prediction, heat in zip(batch, predictions, maps, strict=True):
                    place = out / names.choose(one.image.name)
                    drawing.append(
                        pool.submit(draw_explanation, one, prediction, heat, place, grader.spec.crop, options)
                    )
            for done in drawing:
                yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _compute_maps(
    grader: Grader, batch: list[DecodedImage], predictions: list[ImagePrediction], target: NamedTarget | int
) -> list[np.ndarray | None]:
    """A map (S, S) for each image that has a prediction."""
    maps: list[np.ndarray | None] = [None] * len(batch)
    chosen = [row for row, prediction in enumerate(predictions) if not prediction.error]
    pixels = [picture.pixels for row in chosen if (picture := batch[row].picture) is not None]
    if not pixels:
        return maps
    # The predicted grade is the one that is shown, which bfloat16 or the mean of eight views may have decided.
    grades = np.array([predictions[row].grade for row in chosen]) if target == "predicted" else target
    images = to_device(np.stack(pixels), grader.runtime.device)
    for row, heat in zip(
        chosen, heat_maps(grader.model, images, grader.spec, grader.runtime, target=grades), strict=True
    ):
        maps[row] = heat
    return maps


class _Counter:
    """Counts explanations as they come, and tells how far it is."""

    def __init__(self, total: int, listen: Listener) -> None:
        self.images = self.errors = self.empty = self.with_heat = 0
        self.in_field = 0.0
        self.examples: list[str] = []
        self._total, self._listen = total, listen

    def add(self, row: Explanation) -> None:
        self.images += 1
        if row.error:
            self.errors += 1
            if len(self.examples) < _NAMED:
                self.examples.append(row.error)
        elif row.in_field is None:
            self.empty += 1
        else:
            self.with_heat += 1
            self.in_field += row.in_field
        if self.images % BATCH_SIZE == 0 or self.images == self._total:
            self._listen(Preparing(self.images, self._total, "explained", "images"))
