"""Preparing photographs against decoding them in full, and against the bare scaled decode."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Row, count_cores, paired, seconds
from benchmarks.photographs import take
from retino_cli.data.manifest import Manifest
from retino_cli.data.prepared import prepare
from retino_cli.preprocess import PreprocessSpec

N_PHOTOGRAPHS = 48
BLACK = 12


def measure_preparing(manifest: Manifest, scratch: Path, *, repeats: int) -> list[Row]:
    """Rows for 224 and 512 px."""
    paths = take(manifest, N_PHOTOGRAPHS)
    part = replace(
        manifest, table=manifest.table[manifest.table["path"].isin(paths)].reset_index(drop=True), official=None
    )
    workers = count_cores()
    rows = []
    for size in (224, 512):
        cache = scratch / f"prepare-{size}"

        def ours(size: int = size, cache: Path = cache) -> float:
            shutil.rmtree(cache, ignore_errors=True)
            return seconds(lambda: prepare(part, PreprocessSpec(image_size=size), cache=cache, workers=workers))

        def in_full(size: int = size) -> float:
            return seconds(lambda: _in_threads(lambda path: decode_in_full(path, size), paths, workers))

        def bare(size: int = size) -> float:
            return seconds(lambda: _in_threads(lambda path: decode_scaled(path, size), paths, workers))

        ours()  # the files come into the page cache
        mine, theirs, ratio = paired(in_full, ours, repeats=repeats)
        rows.append(
            Row(
                f"prepare-{size}",
                f"`data prepare` to {size} px, images/s",
                "PIL: decode in full, crop, pad, resize; as many threads",
                ratio,
                ">= 7x",
                ratio >= 7,
                len(paths) / theirs,
                len(paths) / mine,
                "images/s",
                repeats,
            )
        )
        mine, theirs, ratio = paired(bare, ours, repeats=repeats)
        rows.append(
            Row(
                f"prepare-{size}-decode",
                f"`data prepare` to {size} px, images/s",
                "the bare scaled JPEG decode",
                ratio,
                ">= 0.75x",
                ratio >= 0.75,
                len(paths) / theirs,
                len(paths) / mine,
                "images/s",
                repeats,
            )
        )
    return rows


def decode_in_full(path: str, size: int) -> np.ndarray:
    """Pillow alone: open, box of what is not black, crop, pad to a square, resize. The lightest way we know of."""
    with Image.open(path) as image:
        photograph = image.convert("RGB")
    box = photograph.convert("L").point(lambda level: 255 if level > BLACK else 0).getbbox()
    cropped = photograph.crop(box)
    side = max(cropped.size)
    square = Image.new("RGB", (side, side))
    square.paste(cropped, ((side - cropped.width) // 2, (side - cropped.height) // 2))
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


def decode_scaled(path: str, size: int) -> None:
    """Only the decoder, at the scale that `prepare` uses: the floor of its cost."""
    with Image.open(path) as image:
        need = size * 4 // 3
        image.draft("RGB", (need, need))
        image.load()


def _in_threads(work: Callable[[str], object], paths: list[str], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, paths):
            pass
