from __future__ import annotations

from typing import Any

import pytest
import torchvision

from retino_cli.config import ARCHITECTURES, HEADS, STEMS, stem_for
from retino_cli.errors import UsageError
from retino_cli.models.factory import build_model, count_parameters


@pytest.mark.parametrize(
    ("arguments", "wrong", "choices"),
    [
        ({"arch": "resnet-18"}, "resnet-18", ARCHITECTURES),
        ({"arch": "resnet18", "head": "mlp"}, "mlp", HEADS),
        ({"arch": "resnet18", "stem": "5x5"}, "5x5", STEMS),
    ],
)
def test_unknown_name_is_answered_with_the_choices(
    arguments: dict[str, Any], wrong: str, choices: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        build_model(**arguments)
    assert f"'{wrong}'" in caught.value.message
    assert all(choice in caught.value.message for choice in choices)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_is_a_probability(dropout: float) -> None:
    with pytest.raises(UsageError, match="Dropout"):
        build_model("resnet18", head="lab", dropout=dropout)


def test_stem_follows_the_image_size() -> None:
    assert [stem_for(size) for size in (28, 64, 65, 224)] == ["3x3", "3x3", "7x7", "7x7"]


def test_parameters_are_counted_as_torchvision_states_them() -> None:
    stated = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["num_params"]  # with 1000 classes
    assert count_parameters(build_model("resnet18")) == stated - 995 * (512 + 1)
    model = build_model("resnet18")
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
    assert count_parameters(model) == 5 * (512 + 1)
