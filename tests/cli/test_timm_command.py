"""A network of timm through the commands."""

from __future__ import annotations

import csv
from pathlib import Path

from commands import Retino

from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.tracking import open_store


def test_train_eval_and_predict(workplace: Path, retino: Retino, synthetic_data: Path) -> None:
    flags = ("--image-size", 32, "--epochs", 1, "--batch-size", 16, "--device", "cpu", "--workers", 1, "-q")
    trained = retino("train", "--data", synthetic_data, "--arch", "timm:test_vit", *flags)
    assert trained.code == 0, trained.err
    record = open_store().find("latest")
    assert record.name.startswith("timm-test_vit-scratch-")
    assert record.params["arch"] == "timm:test_vit"
    assert "stem" not in record.params
    model, info = load_checkpoint(open_store().download(record.run_id, "checkpoint/best"))
    assert model.pos_embed.shape[1] == 1 + 4  # 2 x 2 patches
    assert (info.stem, info.preprocess.image_size, info.preprocess.mean) == ("", 32, (0.5, 0.5, 0.5))
    judged = retino("eval", "latest", "-q")
    assert judged.code == 0, judged.err
    out = workplace / "p.csv"
    predicted = retino("predict", record.run_id, synthetic_data / "test", "--out", out)
    assert predicted.code == 0, predicted.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((synthetic_data / "test").iterdir()))
    again = retino(
        "train", "--data", synthetic_data, "--arch", "timm:test_vit", "--init", record.run_id, "--freeze", 7, *flags
    )
    assert again.code == 0, again.err


def test_unknown_network(workplace: Path, retino: Retino, synthetic_data: Path) -> None:
    ended = retino("train", "--data", synthetic_data, "--arch", "timm:test_resnat", "-q")
    assert ended.code == 2
    assert "no network 'test_resnat'" in ended.err
    assert "timm:test_resnet" in ended.err
