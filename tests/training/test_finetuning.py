"""Frozen stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from retino_cli.config import TrainConfig
from retino_cli.errors import UsageError
from retino_cli.models.checkpoint import load_checkpoint
from retino_cli.models.factory import build_model
from retino_cli.tracking import open_store
from retino_cli.training.events import Event, RunStarted, StepDone
from retino_cli.training.finetuning import freeze_stages, hold_frozen
from retino_cli.training.optimizer import build_optimizer
from retino_cli.training.train import train

Quick = Callable[..., TrainConfig]


def stored(run_id: str, which: str = "last") -> dict[str, Tensor]:
    return load_checkpoint(open_store().download(run_id, f"checkpoint/{which}"))[0].state_dict()


def weights_file(folder: Path, arch: str) -> tuple[Path, dict[str, Tensor]]:
    """Weights to start from, with statistics that are not those of a new network."""
    torch.manual_seed(11)
    model = build_model(arch, stem="7x7", image_size=32).train()
    with torch.no_grad():
        model(torch.rand(4, 3, 32, 32))
    save_file(model.state_dict(), folder / "start.safetensors")
    return folder / "start.safetensors", {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("arch", "changes", "frozen"),
    [
        ("resnet18", {"freeze": 3, "ema": 0.9}, ("conv1.", "bn1.", "layer1.", "layer2.")),
        ("resnet18", {"freeze": 5, "optimizer": "adamw"}, ("conv1.", "bn1.", "layer")),
        ("timm:test_efficientnet", {"freeze": 2, "stem": None}, ("conv_stem.", "bn1.", "blocks.0.")),
    ],
)
def test_frozen_stages_stay_as_they_are_bit_for_bit(
    workplace: Path, quick: Quick, arch: str, changes: dict[str, object], frozen: tuple[str, ...]
) -> None:
    path, before = weights_file(workplace, arch)
    result = train(quick(arch=arch, weights=path, **changes))
    after = stored(result.run_id)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor) == name.startswith(frozen), name
    assert open_store().find(result.run_id).params["freeze"] == str(changes["freeze"])


def test_a_frozen_training_resumes_as_if_never_stopped(workplace: Path, quick: Quick) -> None:
    path, _ = weights_file(workplace, "timm:test_resnet")
    start = {"arch": "timm:test_resnet", "stem": None, "weights": path}
    config = quick(**start, freeze=4, optimizer="adamw", lr=1e-3, epochs=2)
    straight = train(config)
    started: list[str] = []

    def stop(event: Event) -> None:
        if isinstance(event, RunStarted):
            started.append(event.run_id)
        if isinstance(event, StepDone) and event.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, listen=stop)
    path.unlink()  # resuming takes nothing from it
    resumed = train(TrainConfig(workers=1), resume=started[0])
    one, other = stored(straight.run_id), stored(resumed.run_id)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["train/loss"] for row in straight.history] == [row["train/loss"] for row in resumed.history]


def test_by_default_nothing_changes() -> None:
    model = build_model("resnet18")
    (group,) = build_optimizer(model, TrainConfig(optimizer="sgd", lr=0.1, momentum=0.9)).param_groups
    assert all(one is other for one, other in zip(group["params"], model.parameters(), strict=True))
    model.train()
    hold_frozen(model)
    assert all(module.training for module in model.modules())


def test_frozen_modules_are_held_in_evaluation_mode() -> None:
    model = build_model("resnet18", head="lab")
    freeze_stages(model, 2)
    model.train()
    hold_frozen(model)
    held = {
        name for name, module in model.named_modules() if not module.training and isinstance(module, nn.BatchNorm2d)
    }
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert held == {name for name in norms if name.startswith(("bn1", "layer1"))}
    assert model.fc.training


def test_more_stages_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="--freeze 6: this network has 5 stages") as caught:
        freeze_stages(build_model("resnet18"), 6)
    assert "stem, layer1, layer2, layer3, layer4" in caught.value.hint
    with pytest.raises(UsageError, match="--freeze would keep random weights"):
        TrainConfig(freeze=1)
    with pytest.raises(UsageError, match="out of range"):
        TrainConfig(freeze=-1)
