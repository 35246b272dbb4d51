"""Predicting raw photographs against a loop with a batch of one, and its memory for many images against few."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks import peers
from benchmarks.environment import folder_as_cwd
from benchmarks.measure import Row, paired, seconds
from benchmarks.photographs import take
from benchmarks.scale import link_photographs
from retino_cli import TrainConfig, train
from retino_cli.data.manifest import Manifest
from retino_cli.evaluation.exported import open_exported
from retino_cli.evaluation.grader import open_grader
from retino_cli.evaluation.prediction import predict_images
from retino_cli.export.export import export_grader
from retino_cli.preprocess import prepare_picture

ROOT = Path(__file__).parents[1]
N_PHOTOGRAPHS = 64
SIZE = 224

_PREDICT = """
import json, sys
from pathlib import Path
from retino_cli.evaluation.prediction import predict_images
predict_images("bench", [sys.argv[1]], out=Path(sys.argv[2]))
from benchmarks.measure import peak_memory
print(json.dumps({"bytes": peak_memory()}))
"""


def train_grader(manifest: Manifest, store: Path) -> None:
    """One epoch is enough: what is measured does not depend on the weights. One view of each image, as the peer has."""
    config = TrainConfig(
        data=manifest.root, layout=manifest.layout, image_size=SIZE, epochs=1, tta=False, run_name="bench"
    )
    with folder_as_cwd(store):
        train(config)


def measure_predicting(manifest: Manifest, scratch: Path, *, repeats: int) -> Row:
    """``predict`` on photographs as they lie on disk against opening and predicting one by one, same network."""
    store = scratch / "predict-store"
    train_grader(manifest, store)
    paths = [Path(path) for path in take(manifest, N_PHOTOGRAPHS)]
    with folder_as_cwd(store):
        model = open_grader("bench", precision="float32").model.float()

        def ours() -> float:
            return seconds(lambda: predict_images("bench", paths, out=scratch / "predictions.csv"))

        ours()
        theirs, mine, ratio = paired(
            lambda: seconds(lambda: peers.predict_one_by_one(model, paths, size=SIZE)), ours, repeats=repeats
        )
    return Row(
        "predict", f"`predict` on {len(paths)} raw photographs, {SIZE} px", "a PIL loop with batch size 1", ratio,
        ">= 5x", ratio >= 5, len(paths) / mine, len(paths) / theirs, "images/s", repeats,
    )  # fmt: skip


def measure_exported(manifest: Manifest, scratch: Path, *, repeats: int) -> Row:
    """An exported file in ONNX Runtime against the checkpoint in torch: the same prepared pictures, both in float32."""
    store = scratch / "predict-store"
    if not (store / "mlflow.db").exists():
        train_grader(manifest, store)
    with folder_as_cwd(store):
        grader = open_grader("bench", device="cpu", precision="float32")
        export_grader("bench", out=scratch / "bench.onnx")
    exported = open_exported(scratch / "bench.onnx")
    paths = take(manifest, N_PHOTOGRAPHS)
    pixels = np.stack([prepare_picture(path, grader.spec).pixels for path in paths])

    def ours() -> float:
        return seconds(lambda: exported.probabilities(pixels))

    def theirs() -> float:
        return seconds(lambda: grader.probabilities(pixels))

    ours(), theirs()
    others, mine, ratio = paired(theirs, ours, repeats=repeats)
    return Row(
        "exported", f"an exported ResNet18, {SIZE} px, on the CPU in float32", "the checkpoint in torch", ratio,
        "(no target)", True, len(paths) / mine, len(paths) / others, "images/s", repeats,
        note=f"threads of each: {torch.get_num_threads()}",
    )  # fmt: skip


def measure_memory(manifest: Manifest, scratch: Path, small: int = 100, large: int = 10_000) -> Row:
    """Peak memory of predicting many images against few: links to the same photographs under many names."""
    store = scratch / "predict-store"
    if not (store / "mlflow.db").exists():
        train_grader(manifest, store)
    peaks = []
    for count in (small, large):
        folder = link_photographs(scratch, count)
        done = subprocess.run(
            [sys.executable, "-c", _PREDICT, str(folder / "train"), str(scratch / f"predicted-{count}.csv")],
            cwd=store, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        peaks.append(float(json.loads(done.stdout.strip().splitlines()[-1])["bytes"]))
    ratio = peaks[1] / peaks[0]
    return Row(
        "memory-predict", f"peak memory of `predict`, {large:,} images", f"{small} images", ratio, "<= 1.1x",
        ratio <= 1.1, peaks[1] / 1e6, peaks[0] / 1e6, "MB", 1,
    )  # fmt: skip
