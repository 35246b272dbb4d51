"""A small network on a few random pictures, ready to be trained: for tests of the loop and of what stands around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from retino_cli.config import TrainConfig, resolve_config
from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import Manifest
from retino_cli.data.pixels import RawPixels
from retino_cli.data.prepared import PreparedImages
from retino_cli.data.slots import RECORD
from retino_cli.preprocess import PreprocessSpec
from retino_cli.runtime import Runtime
from retino_cli.training.events import EpochDone, ignore
from retino_cli.training.loop import TrainingSetup, train_epochs
from retino_cli.training.losses import build_loss
from retino_cli.training.optimizer import build_optimizer

SIZE = 16


class Tiny(nn.Module):
    """A network with all that makes order and batches matter: batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(8 * 16, 5))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        logits: Tensor = self.head(self.body(images))
        return logits


def make_images(grade: list[int], *, seed: int = 0) -> LabelledImages:
    """Random pictures with these grades, brighter the higher the grade."""
    n = len(grade)
    pixels = np.random.default_rng(seed).integers(0, 128, (n, SIZE, SIZE, 3)).astype(np.uint8)
    pixels += (np.array(grade, dtype=np.uint8) * 30)[:, None, None, None]
    table = pd.DataFrame(
        {
            "image_id": [f"image {k}" for k in range(n)],
            "path": [f"{k}.png" for k in range(n)],
            "grade": np.array(grade, dtype=np.int8),
            "split": "train",
            "patient_id": "",
            "eye": "",
        }
    )
    manifest = Manifest("made up", "csv", Path("nowhere"), table, {}, 0, "none")
    prepared = PreparedImages(
        spec=PreprocessSpec(image_size=SIZE),
        store=RawPixels(pixels),
        rows=np.arange(n),
        index=np.zeros(n, dtype=RECORD),
        fallbacks=0,
        unreadable=(),
        decoded=0,
        folder=Path("nowhere"),
    )
    return LabelledImages.of(manifest, prepared)


def make_setup(
    *, n: int = 13, monitored: dict[str, LabelledImages] | None = None, start: int = 0, **changes: object
) -> TrainingSetup:
    options: dict[str, object] = {"epochs": 3, "batch_size": 4, "lr": 0.05, "precision": "float32", "device": "cpu"}
    config = resolve_config(TrainConfig(**(options | changes)), n_train=n, native_size=SIZE)  # type: ignore[arg-type] # any field
    torch.manual_seed(start)
    model = Tiny()
    return TrainingSetup(
        model=model,
        optimizer=build_optimizer(model, config),
        loss=build_loss(str(config.loss), ordinal_sigma=float(config.ordinal_sigma or 0)),
        train=make_images([k % 5 for k in range(n)]),
        monitored={"val": make_images([0, 1, 2, 3, 4, 0], seed=1)} if monitored is None else monitored,
        spec=PreprocessSpec(image_size=SIZE),
        config=config,
        runtime=Runtime(device=torch.device("cpu"), precision="float32"),
    )


def weights(setup: TrainingSetup) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in setup.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def run(setup: TrainingSetup, *, first_epoch: int = 1) -> list[EpochDone]:
    return list(train_epochs(setup, first_epoch=first_epoch, listen=ignore))
