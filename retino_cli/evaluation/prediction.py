"""``predict_images(run, sources)``: grades for images that nobody has graded.

Pictures are decoded by threads, a few batches ahead of the model, and rows are written as they come: neither pictures
nor rows pile up, however many images there are. The batches are those of an evaluation of the same images, and so,
bit for bit, are the numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import numpy as np

from retino_cli.data.image_list import ImageList, NamedImage
from retino_cli.data.pixels import count_cores
from retino_cli.errors import DataError, UsageError
from retino_cli.evaluation.exported import is_exported, open_exported, refuse_of_a_run
from retino_cli.evaluation.grader import PictureGrader, open_grader
from retino_cli.evaluation.inference import BATCH_SIZE
from retino_cli.evaluation.operating_question import check_operating
from retino_cli.evaluation.prediction_files import CsvWriter, ImagePrediction, RowWriter, check_format, writing
from retino_cli.evaluation.shards import KEY, Shard, is_finished, merge
from retino_cli.grades import GRADES, REFERABLE_GRADE
from retino_cli.preprocess import PreparedPicture, PreprocessSpec, prepare_picture
from retino_cli.training.events import Listener, Note, Preparing, ignore

_AHEAD: Final = 2 * BATCH_SIZE
"""Pictures that are decoded, or waiting for it, while the model works."""
_MOST_WAITING: Final = 32 * BATCH_SIZE
"""Rows that wait for a full batch, at most: files that cannot be read make rows too, but fill no batch."""
_NAMED: Final = 3


@dataclass(frozen=True)
class PredictionReport:
    """What was done.

    ``out``: the file of this process, "-" for stdout. ``images``: rows in it, ``errors`` of them without a prediction,
    ``examples`` being the first few. ``shard``: "I/N". ``merged``: the file that all shards were put together in by
    this process, else "". ``already_there``: the shard was finished before and was not made again; then ``images`` is
    what it holds, and ``errors`` 0, not counted. ``seconds``: from the first image to the last. ``threshold``: of the
    operating point that was asked for, or that an exported file has: what is at least as referable is to be referred.
    ``referred``: how many are, None without a threshold, or where the shard was there already.
    """

    run_id: str
    run_name: str
    out: str
    images: int
    errors: int
    examples: tuple[str, ...]
    shard: str
    merged: str
    already_there: bool
    seconds: float
    device: str
    precision: str
    threshold: float | None
    referred: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self) | {"examples": list(self.examples)}


def predict_images(
    run: str,
    sources: Sequence[str | Path],
    *,
    out: Path | str | IO[str],
    image_column: str | None = None,
    images: Path | None = None,
    shard: Shard | None = None,
    device: str = "auto",
    precision: str = "auto",
    tta: bool | None = None,
    sensitivity: float | None = None,
    specificity: float | None = None,
    workers: int | None = None,
    tracking_uri: str | None = None,
    listen: Listener = ignore,
) -> PredictionReport:
    """Predict the images that ``sources`` name with the best checkpoint of training ``run`` (of repeats, the mean of
    all seeds), or with the exported file of that name (FILE.onnx), which needs no store.

    ``sources``, ``image_column`` and ``images`` are those of :class:`~retino_cli.data.image_list.ImageList`. ``out`` is
    a file (.csv, .jsonl, .parquet; it appears when all is done) or a text stream, which gets CSV as it comes. Its rows
    (:class:`~retino_cli.evaluation.prediction_files.ImagePrediction`) are in the order of the images; a file that
    cannot be read has a row with an error. ``shard`` is the part of the list that this process does, by default what
    torchrun or srun says. ``workers`` is the number of pictures decoded at the same time. Preprocessing and, where they
    are open, precision and ``tta`` come from the checkpoint; an exported file has its own, and is computed on the CPU.
    ``sensitivity`` or ``specificity`` asks for the operating point that reaches it on the training's validation images;
    rows then say which images are to be referred.
    Nothing is stored in MLflow.

    Raises :class:`~retino_cli.errors.RetinoError` for an unknown run, sources that do not exist or hold no image, and
    an output that cannot be written.
    """
    check_operating(sensitivity, specificity, None, "exclude")
    out = Path(out) if isinstance(out, str) else out
    shard = Shard.from_launcher() if shard is None else shard
    if isinstance(out, Path):
        check_format(out)
    elif not shard.is_whole:
        raise UsageError(f"Shard {shard.index}/{shard.count} cannot go to stdout.", "Name a file with --out.")
    wanted = ImageList(sources, image_column=image_column, images=images)
    total = wanted.count()
    grader: PictureGrader
    if is_exported(run):
        refuse_of_a_run(device, precision, tta, tracking_uri, sensitivity if specificity is None else specificity)
        grader = open_exported(Path(run))
    else:
        opened = open_grader(run, device=device, precision=precision, tta=tta, tracking_uri=tracking_uri)
        grader = replace(opened, point=opened.choose_point(sensitivity, specificity))
    key = _key(grader, wanted, total)
    part = shard.rows(total)
    counted = _Counter(len(part), listen)
    file = shard.file(out) if isinstance(out, Path) else None
    already_there = not shard.is_whole and file is not None and is_finished(file, key)
    began = time.perf_counter()
    if already_there:
        listen(Note(f"{file} is finished already."))
    else:
        rows = predict_each(grader, islice(wanted, part.start, part.stop), workers=workers)
        with closing(rows):
            if file is None:
                _write(CsvWriter(out), rows, counted)  # type: ignore[arg-type] # a stream where it is no path
            else:
                with writing(file, metadata=None if shard.is_whole else {KEY: key}) as writer:
                    _write(writer, rows, counted)
    merged = isinstance(out, Path) and not shard.is_whole and merge(out, shard.count, key)
    return PredictionReport(
        run_id=grader.run_id,
        run_name=grader.name,
        out="-" if file is None else str(file),
        images=len(part) if already_there else counted.images,
        errors=counted.errors,
        examples=tuple(counted.examples),
        shard=f"{shard.index}/{shard.count}",
        merged=str(out) if merged else "",
        already_there=already_there,
        seconds=time.perf_counter() - began,
        device=grader.device_name,
        precision=grader.precision,
        threshold=grader.threshold,
        referred=None if grader.threshold is None or already_there else counted.referred,
    )


def predict_each(
    grader: PictureGrader, images: Iterable[NamedImage], *, workers: int | None = None
) -> Generator[ImagePrediction, None, None]:
    """Yield a prediction for each image, in order, while the next ones are decoded. Close it to stop early."""
    with closing(decode_ahead(images, grader.spec, workers or count_cores())) as decoded:
        for batch in in_batches(decoded):
            yield from predict_batch(grader, batch)


class DecodedImage(NamedTuple):
    """An image of a list as the model's input, or why there is none: ``picture`` is then None."""

    image: NamedImage
    picture: PreparedPicture | None
    error: str


def decode_ahead(
    images: Iterable[NamedImage], spec: PreprocessSpec, workers: int
) -> Generator[DecodedImage, None, None]:
    """Yield the images in order while ``workers`` threads prepare the next ones. Close it to stop early."""
    ahead: deque[Future[DecodedImage]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for image in images:
            ahead.append(pool.submit(_decode, image, spec))
            if len(ahead) > _AHEAD:  # not earlier: what waits here keeps the threads busy while the model works
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # Ctrl-C, too: what has not begun is dropped, and each thread ends after the picture that it is at.
        pool.shutdown(cancel_futures=True)


def _decode(image: NamedImage, spec: PreprocessSpec) -> DecodedImage:
    try:
        return DecodedImage(image, prepare_picture(image.source, spec), "")
    except DataError as error:
        return DecodedImage(image, None, error.message)


def in_batches(pictures: Iterable[DecodedImage]) -> Iterator[list[DecodedImage]]:
    """Group pictures so that each group has BATCH_SIZE readable ones, as an evaluation's batches have."""
    waiting: list[DecodedImage] = []
    readable = 0
    for picture in pictures:
        waiting.append(picture)
        readable += picture.picture is not None
        if readable == BATCH_SIZE or len(waiting) == _MOST_WAITING:
            yield waiting
            waiting, readable = [], 0
    if waiting:
        yield waiting


def predict_batch(grader: PictureGrader, pictures: list[DecodedImage]) -> list[ImagePrediction]:
    """One prediction for each image, in order."""
    readable = {row: picture.picture for row, picture in enumerate(pictures) if picture.picture is not None}
    rows = [ImagePrediction(picture.image.name, error=picture.error) for picture in pictures]
    if readable:
        pixels = np.stack([picture.pixels for picture in readable.values()])
        values = grader.probabilities(pixels)  # (B, 5)
        names = [pictures[row].image.name for row in readable]
        for row, prediction in zip(readable, _rows(names, values, grader.threshold), strict=True):
            rows[row] = prediction
    return rows


def _rows(names: list[str], values: np.ndarray, threshold: float | None) -> Iterator[ImagePrediction]:
    """``values``: (B, 5) float64. Score, grade and referable are computed as in ``predictions.Predictions``."""
    scores = (values * np.asarray(GRADES, dtype=np.float64)).sum(axis=1)
    grades = values.argmax(axis=1)
    referable = values[:, REFERABLE_GRADE:].sum(axis=1)
    for row, name in enumerate(names):
        if np.isfinite(values[row]).all():
            yield ImagePrediction(
                image=name,
                probabilities=tuple(values[row].tolist()),
                score=float(scores[row]),
                grade=int(grades[row]),
                referable=float(referable[row]),
                refer=None if threshold is None else bool(referable[row] >= threshold),
            )
        else:
            yield ImagePrediction(name, error="the model's output is not finite")


class _Counter:
    """Counts rows as they are written, and tells how far it is."""

    def __init__(self, total: int, listen: Listener) -> None:
        self.images = self.errors = self.referred = 0
        self.examples: list[str] = []
        self._total, self._listen = total, listen

    def add(self, row: ImagePrediction) -> None:
        self.images += 1
        self.referred += row.refer is True
        if row.error:
            self.errors += 1
            if len(self.examples) < _NAMED:
                self.examples.append(row.error)
        if self.images % BATCH_SIZE == 0 or self.images == self._total:
            self._listen(Preparing(self.images, self._total, "predicted", "images"))


def _write(writer: RowWriter, rows: Iterable[ImagePrediction], counter: _Counter) -> None:
    for row in rows:
        writer.write([row])
        counter.add(row)


def _key(grader: PictureGrader, images: ImageList, total: int) -> str:
    """Stands for everything that decides what a shard holds."""
    identity = [grader.fingerprint, grader.threshold, total, [os.path.abspath(source) for source in images.sources]]
    return hashlib.sha256(json.dumps(identity).encode("utf-8", "surrogateescape")).hexdigest()
