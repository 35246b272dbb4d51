"""Batches: the right pictures, grades beside them, and the same from a device's own memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from retino_cli.data.labelled import LabelledImages
from retino_cli.data.manifest import load_manifest
from retino_cli.data.prepared import prepare
from retino_cli.preprocess import PreprocessSpec, prepare_picture

CPU = torch.device("cpu")


@pytest.fixture
def labelled(synthetic_data: Path, tmp_path: Path) -> LabelledImages:
    manifest = load_manifest(synthetic_data).select("train")
    return LabelledImages.of(manifest, prepare(manifest, PreprocessSpec(image_size=32), cache=tmp_path))


def test_a_batch_holds_the_pictures_of_its_index(labelled: LabelledImages) -> None:
    index = np.array([3, 0, 5])
    batch = labelled.batch(index, CPU)
    assert batch.shape == (3, 3, 32, 32)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    paths, grades = labelled.column("path"), labelled.manifest.table["grade"].to_numpy()
    for place, row in enumerate(index):
        picture = prepare_picture(str(paths[row]), PreprocessSpec(image_size=32)).pixels
        np.testing.assert_array_equal(batch[place].permute(1, 2, 0).numpy(), picture)
        assert labelled.grade[row] == grades[row]


def test_unreadable_images_drop_out(labelled: LabelledImages) -> None:
    rows = labelled.images.rows.copy()
    rows[1] = -1
    fewer = LabelledImages.of(labelled.manifest, replace(labelled.images, rows=rows))
    assert len(fewer) == len(labelled) - 1
    ids = labelled.column("image_id")
    assert fewer.column("image_id").tolist() == [*ids[:1], *ids[2:]]
    torch.testing.assert_close(fewer.batch(np.array([1]), CPU), labelled.batch(np.array([2]), CPU))


def test_resident_pictures_give_the_same_batches(labelled: LabelledImages) -> None:
    resident = labelled.resident_on(CPU, most_bytes=10**9)
    assert resident.resident is not None
    assert resident.resident.shape == (len(labelled), 32, 32, 3)
    index = np.random.default_rng(0).permutation(len(labelled))[:7]
    batch = resident.batch(index, CPU)
    assert torch.equal(batch, labelled.batch(index, CPU))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_pictures_that_do_not_fit_stay_where_they_are(labelled: LabelledImages) -> None:
    needed = len(labelled) * 32 * 32 * 3
    assert labelled.resident_on(CPU, most_bytes=needed - 1).resident is None
    assert labelled.resident_on(CPU, most_bytes=needed).resident is not None
