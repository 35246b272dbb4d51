"""The configuration: what it refuses, how recipes fill it, and that it survives JSON."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retino_cli import config as module
from retino_cli.config import SMALL_IMAGE, TrainConfig, resolve_config
from retino_cli.errors import UsageError
from retino_cli.models import factory
from retino_cli.recipes import FEW, FEW_PHOTOGRAPHS, LAB, RECIPES, STRONG


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"arch": "resnet19"}, "--arch resnet19"),
        ({"recipe": "weak"}, "--recipe weak"),
        ({"head": "mlp"}, "--head mlp"),
        ({"stem": "5x5"}, "--stem 5x5"),
        ({"optimizer": "adam"}, "--optimizer adam"),
        ({"schedule": "step"}, "--schedule step"),
        ({"loss": "mse"}, "--loss mse"),
        ({"class_weights": "some"}, "--class-weights some"),
        ({"crop": "square"}, "--crop square"),
        ({"normalisation": "z"}, "--normalisation z"),
        ({"augmentation": "weak"}, "--augmentation weak"),
        ({"select_by": "kappa"}, "--select-by kappa"),
        ({"precision": "float16"}, "--precision float16"),
        ({"epochs": 0}, "--epochs 0"),
        ({"batch_size": 1}, "--batch-size 1"),
        ({"lr": 0.0}, "--lr 0"),
        ({"lr": -1.0}, "--lr -1"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"lr": float("inf")}, "--lr inf"),
        ({"lr": "fast"}, "--lr fast"),
        ({"lr": "-1"}, "--lr -1"),
        ({"momentum": 1.0}, "--momentum 1"),
        ({"weight_decay": -0.1}, "--weight-decay -0.1"),
        ({"image_size": 8}, "--image-size 8"),
        ({"image_size": 8192}, "--image-size 8192"),
        ({"val_fraction": 1.0}, "--val-fraction 1"),
        ({"patience": -1}, "--patience -1"),
        ({"workers": 0}, "--workers 0"),
        ({"seed": -1}, "--seed -1"),
        ({"experiment": " "}, "--experiment"),
        ({"pretrained": True, "init": "latest"}, "--pretrained and --init"),
        ({"weights": Path("x.pth"), "init": "latest"}, "--weights and --init"),
    ],
)
def test_a_value_that_cannot_be_right_names_its_flag_and_a_way_out(changes: dict[str, object], flag: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(**changes)  # type: ignore[arg-type] # wrong on purpose
    assert caught.value.message.startswith(flag)
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(arch="vit")
    assert caught.value.hint == "Choose one of: resnet18, resnet34, resnet50, timm:NAME."


def test_the_choices_are_the_factorys() -> None:
    """They are written down here too, so that the command line need not import torch."""
    assert module.ARCHITECTURES == factory.ARCHITECTURES
    assert set(module.HEADS) == set(factory.HEADS)
    assert set(module.STEMS) == set(factory.STEMS)
    from retino_cli.evaluation.metrics import METRIC_NAMES
    from retino_cli.training.augment import AUGMENTATIONS
    from retino_cli.training.loop import SELECTORS

    assert set(module.AUGMENTATIONS) == set(AUGMENTATIONS)
    assert set(module.SELECT_BY) == {"loss", "accuracy", "qwk", *SELECTORS}
    assert set(module.SELECT_BY) - {"loss"} <= set(METRIC_NAMES)


def test_small_images_get_the_3x3_stem_unless_told_otherwise() -> None:
    for size, stem in ((16, "3x3"), (SMALL_IMAGE, "3x3"), (SMALL_IMAGE + 1, "7x7"), (512, "7x7")):
        assert resolve_config(TrainConfig(image_size=size), n_train=10, native_size=512).stem == stem
    assert resolve_config(TrainConfig(image_size=28, stem="7x7"), n_train=10, native_size=28).stem == "7x7"


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipe_fills_every_open_field_and_overrides_nothing(recipe: str) -> None:
    resolved = resolve_config(TrainConfig(recipe=recipe), n_train=1000, native_size=2000)
    may_stay_open = {"layout", "image_column", "label_column", "split_column", "patient_column", "weights", "init"}
    may_stay_open |= {"workers", "run_name", "tracking_uri", "split_seed"}
    assert {field.name for field in fields(resolved) if getattr(resolved, field.name) is None} == may_stay_open
    chosen = {
        "head": "linear" if recipe == "lab" else "lab",
        "optimizer": "sgd" if recipe in ("few", "small") else "adamw",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "warmup": 0.5,
        "ema": 0.5,
        "tta": recipe in ("strong", "lab"),
        "schedule": "cosine" if recipe == "lab" else "constant",
        "loss": "focal",
        "ordinal_sigma": 0.5,
        "class_weights": "balanced",
        "crop": "retina" if recipe == "lab" else "none",
        "normalisation": "imagenet" if recipe == "lab" else "none",
        "augmentation": "none",
        "select_by": "macro_f1",
        "test_every_epoch": recipe != "lab",
        "nesterov": recipe != "strong",
        "epochs": 3,
        "batch_size": 7,
        "lr": 0.5,
        "image_size": 96,
        "stem": "3x3",
    }
    resolved = resolve_config(TrainConfig(recipe=recipe, **chosen), n_train=1000, native_size=2000)  # type: ignore[arg-type] # any field
    for name, value in chosen.items():
        assert getattr(resolved, name) == value, name


def test_the_lab_recipe_is_the_reports_setting() -> None:
    for arch, batch_size in (("resnet18", 32), ("resnet50", 16)):
        config = resolve_config(TrainConfig(recipe="lab", arch=arch), n_train=28_100, native_size=512)
        assert (config.batch_size, config.epochs, config.lr, config.momentum) == (batch_size, 10, 1e-3, 0.9)
        assert (config.weight_decay, config.image_size, config.head, config.loss) == (5e-4, 512, "lab", "ce")
        assert (config.crop, config.normalisation, config.augmentation) == ("none", "none", "flips")
        assert (config.optimizer, config.schedule, config.nesterov) == ("sgd", "constant", False)


def test_the_recipe_is_chosen_by_the_size_and_the_number_of_the_images() -> None:
    def chosen(n: int, size: int, **asked: object) -> str | None:
        return resolve_config(TrainConfig(**asked), n_train=n, native_size=size).recipe  # type: ignore[arg-type] # any field

    assert chosen(100_000, 28) == chosen(100, 64) == "small"
    assert chosen(413, 2848) == chosen(FEW_PHOTOGRAPHS - 1, 65) == "few"
    assert chosen(FEW_PHOTOGRAPHS, 65) == chosen(35_126, 512) == "strong"
    assert chosen(35_126, 2848, image_size=64) == "small"  # what the network sees counts
    assert chosen(413, 28, image_size=224) == "small"
    assert chosen(413, 2848, recipe="lab") == "lab"


def test_epochs_and_rate_depend_on_where_the_weights_come_from() -> None:
    scratch, started = (
        resolve_config(TrainConfig(init=init), n_train=413, native_size=2848) for init in (None, "another-run")
    )
    assert (scratch.recipe, scratch.epochs, scratch.lr) == ("few", FEW.epochs_scratch, FEW.lr_scratch)
    assert (started.recipe, started.epochs, started.lr) == ("few", FEW.epochs, FEW.lr)
    assert (scratch.epochs, started.epochs) == (60, 30)
    asked = TrainConfig(init="another-run", epochs=7)
    assert resolve_config(asked, n_train=413, native_size=2848).epochs == 7


def test_the_strong_recipe_is_scaled_to_the_data() -> None:
    def epochs(n: int) -> int | None:
        return resolve_config(TrainConfig(recipe="strong"), n_train=n, native_size=512).epochs

    assert epochs(35_126) == epochs(10**6) == STRONG.epochs == 25
    assert epochs(413) == round(25 * (35_126 / 413) ** 0.25)
    assert epochs(2) == 100
    assert LAB.epochs == resolve_config(TrainConfig(recipe="lab"), n_train=2, native_size=512).epochs


@pytest.mark.parametrize(
    ("native", "size"), [(2848, 512), (512, 512), (511, 480), (224, 224), (100, 96), (65, 64), (64, 64), (28, 28)]
)
def test_images_are_never_enlarged(native: int, size: int) -> None:
    assert resolve_config(TrainConfig(recipe="strong"), n_train=10, native_size=native).image_size == size


def test_the_learning_rate_depends_on_where_the_weights_come_from() -> None:
    def lr(**changes: object) -> float | None:
        return resolve_config(TrainConfig(recipe="strong", **changes), n_train=10, native_size=512).lr  # type: ignore[arg-type] # any field

    assert lr() == STRONG.lr_scratch
    assert lr(pretrained=True) == lr(weights=Path("x.pth")) == lr(init="latest") == STRONG.lr


def test_a_learning_rate_may_be_text_and_auto_leaves_it_open() -> None:
    """As the command line and RETINO_LR give it."""
    assert TrainConfig(lr="1e-3") == TrainConfig(lr=1e-3)
    auto = TrainConfig(lr="auto")
    assert (auto.lr, auto.lr_auto) == (None, True)
    assert TrainConfig.from_dict(json.loads(json.dumps(auto.to_dict()))) == auto
    resolved = resolve_config(auto, n_train=10, native_size=512)
    assert (resolved.lr, resolved.lr_auto) == (resolve_config(TrainConfig(), n_train=10, native_size=512).lr, True)
    assert not TrainConfig(lr="0.5").lr_auto


def test_resolving_twice_changes_nothing() -> None:
    once = resolve_config(TrainConfig(arch="resnet50"), n_train=500, native_size=300)
    assert resolve_config(once, n_train=9, native_size=28) == once


configurations = st.builds(
    TrainConfig,
    data=st.sampled_from([Path("data"), Path("/a b/ü")]),
    arch=st.sampled_from(module.ARCHITECTURES),
    weights=st.none() | st.just(Path("some/weights.pth")),
    epochs=st.none() | st.integers(1, 100_000),
    lr=st.none() | st.floats(1e-12, 1e3),
    val_fraction=st.floats(0, 0.9),
    seed=st.integers(0, 2**63 - 1),
    image_column=st.none() | st.text(),
    nesterov=st.none() | st.booleans(),
)


@given(configurations)
def test_json_brings_the_same_configuration_back(config: TrainConfig) -> None:
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_newer_versions_fields_are_left_out() -> None:
    values = TrainConfig(seed=3).to_dict() | {"invented_later": 1}
    assert TrainConfig.from_dict(values) == replace(TrainConfig(), seed=3)


def test_paths_may_be_given_as_text() -> None:
    config = TrainConfig(data="some/data", weights="some/weights.pth")  # type: ignore[arg-type] # what is tested
    assert (config.data, config.weights) == (Path("some/data"), Path("some/weights.pth"))
