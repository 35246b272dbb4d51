"""The configuration of a training run: one frozen dataclass that validates itself.

Fields that are ``None`` are open: :func:`resolve_config` fills them from the recipe and from the data. The resolved
configuration travels in every checkpoint and is logged, flat, as the parameters of the run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from retino_cli.errors import UsageError
from retino_cli.recipes import FEW_PHOTOGRAPHS, RECIPES, Recipe

ARCHITECTURES: Final = ("resnet18", "resnet34", "resnet50")
BOTTLENECK_ARCHITECTURES: Final = ("resnet50",)
TIMM_PREFIX: Final = "timm:"
"""``timm:NAME`` is a network of timm, which is not asked for its names here: that would import torch."""
HEADS: Final = ("linear", "lab")
STEMS: Final = ("7x7", "3x3")
OPTIMIZERS: Final = ("sgd", "adamw")
SCHEDULES: Final = ("constant", "cosine")
LOSSES: Final = ("ce", "focal", "ordinal")
CLASS_WEIGHTS: Final = ("none", "balanced")
CROPS: Final = ("retina", "none")
NORMALISATIONS: Final = ("imagenet", "none")
AUGMENTATIONS: Final = ("none", "flips", "free", "strong")
SELECT_BY: Final = ("qwk", "accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "referable_auc", "loss")
SPLITTINGS: Final = ("official", "patient", "likeness")
DUPLICATES: Final = ("keep", "drop")
PRECISIONS: Final = ("auto", "float32", "bfloat16")

SMALL_IMAGE: Final = 64
"""Images of this many pixels a side, or fewer, get the 3x3 stem and larger batches."""
EYEPACS_TRAIN: Final = 35_126
"""Images in the training set of Kaggle EyePACS, which the ``strong`` recipe's number of epochs refers to."""
MOST_EPOCHS: Final = 100

_TAKEN_AS_THEY_ARE: Final = (
    "head",
    "optimizer",
    "momentum",
    "nesterov",
    "weight_decay",
    "schedule",
    "warmup",
    "ema",
    "tta",
    "loss",
    "ordinal_sigma",
    "class_weights",
    "crop",
    "normalisation",
    "augmentation",
    "select_by",
    "test_every_epoch",
)
"""Fields that a recipe gives without a look at the data."""


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how.

    ``split`` is ``official``, ``patient`` to cut a data set anew so that no patient is in two splits, or ``likeness``
    to cut validation anew so that pictures of like colours stay together, where no patients are named;
    ``duplicates`` is ``drop`` to leave training images out whose picture is in test or validation too. Sizes are in
    pixels, ``val_fraction`` is the share of the training images that become validation where the data set
    has none, ``split_seed`` the seed of such cuts alone (``None``: ``seed``), ``patience`` a number of epochs without
    a better validation value (0: never stop early). ``None`` leaves a field to the recipe or to the data.

    Raises :class:`~retino_cli.errors.UsageError`, naming the flag, for a value that cannot be right.
    """

    data: Path = Path("data")
    layout: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    patient_column: str | None = None
    val_fraction: float = 0.1
    split: str = "official"
    duplicates: str = "keep"
    skip_unreadable: bool = False

    arch: str = "resnet18"
    pretrained: bool = False
    weights: Path | None = None
    init: str | None = None
    head: str | None = None
    stem: str | None = None
    freeze: int = 0

    recipe: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    optimizer: str | None = None
    lr: float | str | None = None
    lr_auto: bool = False
    momentum: float | None = None
    nesterov: bool | None = None
    weight_decay: float | None = None
    schedule: str | None = None
    warmup: float | None = None
    ema: float | None = None
    tta: bool | None = None
    loss: str | None = None
    ordinal_sigma: float | None = None
    class_weights: str | None = None
    image_size: int | None = None
    crop: str | None = None
    normalisation: str | None = None
    augmentation: str | None = None
    select_by: str | None = None
    test_every_epoch: bool | None = None
    patience: int = 0

    seed: int = 0
    split_seed: int | None = None
    device: str = "auto"
    precision: str = "auto"
    deterministic: bool = False
    workers: int | None = None

    experiment: str = "retino"
    run_name: str | None = None
    tracking_uri: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", Path(self.data))  # text will do, too
        if self.weights is not None:
            object.__setattr__(self, "weights", Path(self.weights))
        if isinstance(self.lr, str):
            object.__setattr__(self, "lr_auto", self.lr_auto or self.lr == "auto")
            object.__setattr__(self, "lr", None if self.lr == "auto" else _number("--lr", self.lr))
        if not is_timm(self.arch):
            _one_of("--arch", self.arch, (*ARCHITECTURES, f"{TIMM_PREFIX}NAME"))
        elif self.stem is not None:
            raise UsageError(f"--stem is not for {self.arch}: networks of timm have their own.", "Leave it out.")
        _one_of("--split", self.split, SPLITTINGS)
        _one_of("--duplicates", self.duplicates, DUPLICATES)
        _one_of("--recipe", self.recipe, tuple(RECIPES))
        _one_of("--head", self.head, HEADS)
        _one_of("--stem", self.stem, STEMS)
        _one_of("--optimizer", self.optimizer, OPTIMIZERS)
        _one_of("--schedule", self.schedule, SCHEDULES)
        _one_of("--loss", self.loss, LOSSES)
        _one_of("--class-weights", self.class_weights, CLASS_WEIGHTS)
        _one_of("--crop", self.crop, CROPS)
        _one_of("--normalisation", self.normalisation, NORMALISATIONS)
        _one_of("--augmentation", self.augmentation, AUGMENTATIONS)
        _one_of("--select-by", self.select_by, SELECT_BY)
        _one_of("--precision", self.precision, PRECISIONS)
        _between("--epochs", self.epochs, 1, 100_000)
        _between("--batch-size", self.batch_size, 2, 65_536)  # batch normalisation needs two values
        _between("--lr", None if self.lr is None else float(self.lr), 1e-12, 1e3)
        _between("--momentum", self.momentum, 0, 0.999999)
        _between("--weight-decay", self.weight_decay, 0, 1e3)
        _between("--warmup", self.warmup, 0, 0.9)
        _between("--ordinal-sigma", self.ordinal_sigma, 0.05, 10)
        _between("--ema", self.ema, 0, 0.999999)
        _between("--freeze", self.freeze, 0, 1000)
        _between("--image-size", self.image_size, 16, 4096)
        _between("--val-fraction", self.val_fraction, 0, 0.9)
        _between("--patience", self.patience, 0, 100_000)
        _between("--workers", self.workers, 1, 1024)
        _between("--seed", self.seed, 0, 2**63 - 1)
        _between("--split-seed", self.split_seed, 0, 2**63 - 1)
        starts = [("--pretrained", self.pretrained), ("--weights", self.weights), ("--init", self.init)]
        given = [flag for flag, value in starts if value]
        if len(given) > 1:
            raise UsageError(
                f"{' and '.join(given)} cannot go together: each says where the first weights come from.", "Give one."
            )
        if self.freeze and not given:
            raise UsageError(
                "--freeze would keep random weights: nothing says where better ones come from.",
                "Add --pretrained, --weights FILE or --init RUN.",
            )
        if not self.experiment.strip():
            raise UsageError("--experiment is empty.", "Give a name, or leave the option out for 'retino'.")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON-able values (paths as text)."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """The inverse of :meth:`to_dict`. Fields that this version does not know are left out."""
        known = {field.name for field in fields(cls)}
        kept = {name: value for name, value in values.items() if name in known}
        return cls(**kept)


def resolve_config(config: TrainConfig, *, n_train: int, native_size: int) -> TrainConfig:
    """``config`` with every open field filled from its recipe and the data.

    ``n_train`` is the number of training images, ``native_size`` the side in pixels that most of them have (the shorter
    one). Images are never enlarged beyond it.
    """
    name = config.recipe or choose_recipe(
        n_train=n_train, image_size=min(config.image_size or native_size, native_size)
    )
    recipe = RECIPES[name]
    image_size = config.image_size or _image_size(recipe, native_size)
    chosen = {name: value for name in _TAKEN_AS_THEY_ARE if (value := getattr(config, name)) is not None}
    chosen = {name: getattr(recipe, name) for name in _TAKEN_AS_THEY_ARE} | chosen
    from_scratch = not (config.pretrained or config.weights or config.init)
    return replace(
        config,
        recipe=name,
        image_size=image_size,
        stem=None if is_timm(config.arch) else config.stem or stem_for(image_size),
        epochs=config.epochs or _epochs(recipe, n_train, from_scratch=from_scratch),
        batch_size=config.batch_size or _batch_size(recipe, config.arch, image_size),
        lr=config.lr or (recipe.lr_scratch if from_scratch else recipe.lr),
        **chosen,
    )


def choose_recipe(*, n_train: int, image_size: int) -> str:
    """The recipe for ``n_train`` training images of ``image_size`` px a side: ``small`` up to 64 px, ``few`` for less
    than 5,000 photographs, else ``strong``."""
    if image_size <= SMALL_IMAGE:
        return "small"
    return "few" if n_train < FEW_PHOTOGRAPHS else "strong"


def stem_for(image_size: int) -> str:
    """The first convolution that suits images of ``image_size`` px: ``3x3`` up to 64 px, else ``7x7``.

    The standard one leaves a 28 px picture one pixel at the end (MedMNIST's ResNets use the small one at 28 px, too).
    """
    return "3x3" if image_size <= SMALL_IMAGE else "7x7"


def is_timm(arch: str) -> bool:
    """Whether ``arch`` names a network of timm."""
    return arch.startswith(TIMM_PREFIX) and len(arch) > len(TIMM_PREFIX)


def _image_size(recipe: Recipe, native_size: int) -> int:
    if native_size >= recipe.image_size:
        return recipe.image_size
    # The network halves the picture five times: a multiple of 32 wastes nothing. Small pictures stay as they are.
    return native_size if native_size <= SMALL_IMAGE else max(SMALL_IMAGE, native_size // 32 * 32)


def _epochs(recipe: Recipe, n_train: int, *, from_scratch: bool) -> int:
    epochs = recipe.epochs_scratch if from_scratch else recipe.epochs
    if not recipe.epochs_by_size:
        return epochs
    scaled = round(epochs * (EYEPACS_TRAIN / max(n_train, 1)) ** 0.25)
    return int(min(max(scaled, epochs), MOST_EPOCHS))


def _batch_size(recipe: Recipe, arch: str, image_size: int) -> int:
    if image_size <= SMALL_IMAGE:
        return recipe.batch_size_small_images
    return recipe.batch_size_bottleneck if arch in BOTTLENECK_ARCHITECTURES else recipe.batch_size


def _one_of(flag: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise UsageError(f"{flag} {value} is not known.", f"Choose one of: {', '.join(choices)}.")


def _number(flag: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{flag} {text} is not a number.", "Give a number, for example 1e-3, or auto.") from None


def _between(flag: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:  # also refuses NaN
        raise UsageError(f"{flag} {value} is out of range.", f"Give a number from {low:g} to {high:g}.")
