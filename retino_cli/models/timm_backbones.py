"""Networks of timm, the optional extra, as graders of retino.

Source: Wightman, "PyTorch Image Models", 2019 (https://github.com/huggingface/pytorch-image-models).
``timm:NAME`` names them, NAME as timm writes it, with or without the tag of its weights
(``timm:convnext_tiny.in12k_ft_in1k``).
"""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from retino_cli.config import TIMM_PREFIX
from retino_cli.errors import UsageError, WeightsError
from retino_cli.grades import N_GRADES
from retino_cli.models.resnet import build_lab_head
from retino_cli.models.structure import head_modules, try_out
from retino_cli.models.weights import WeightsReport, transfer


def build_backbone(arch: str, *, head: str, dropout: float, image_size: int) -> nn.Module:
    """The network ``arch`` with fresh random weights and five outputs.

    ``head``: "linear" is timm's own classifier with five outputs, "lab" replaces its last linear layer by the lab's.
    ``image_size``: side of the input in pixels, which networks need that are made for one size.

    Raises UsageError where timm is not installed, has no such network, or the network cannot take this size or head.
    """
    model = _create(arch, image_size, num_classes=N_GRADES)
    if head == "lab":
        _replace_head(model, arch, dropout)
    return model


def read_statistics(arch: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and deviation, RGB in [0, 1], that the pretrained weights of ``arch`` expect."""
    config = _config(arch)
    return tuple(config.mean), tuple(config.std)


def load_pretrained(model: nn.Module, arch: str, *, image_size: int) -> WeightsReport:
    """Load timm's own weights for ``arch`` into ``model``: all but the classifier.

    timm takes them from its cache (that of the Hugging Face hub, HF_HOME) or downloads them. They are fitted to
    ``image_size`` where they hold positions. No random numbers are drawn. Raises WeightsError where there are none, or
    where they cannot be had.
    """
    config = _config(arch)
    name = _name(arch)
    if not (config.hf_hub_id or config.url or config.file):
        raise WeightsError(f"timm has no pretrained weights for '{name}'.", _tags_with_weights(name))
    with torch.random.fork_rng(devices=[]):
        try:
            donor = _create(arch, image_size, pretrained=True)
        except UsageError:
            raise
        except Exception as error:  # the hub's client passes on what its network library raises
            reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
            raise WeightsError(
                f"timm's weights for '{name}' cannot be had: {reason}",
                "They come from the Hugging Face hub once, into its cache (HF_HOME); without it: --weights FILE.",
            ) from error
    tag = f".{config.tag}" if config.tag else ""
    return transfer(model, donor.state_dict(), source=f"timm ({config.architecture}{tag})")


def fit_positions(model: nn.Module, *, image_size: int) -> None:
    """Bring a network that is made for one size, with its learned positions, to ``image_size`` px, where it can."""
    description: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    resize = getattr(model, "set_input_size", None)
    if description.get("fixed_input_size", False) and callable(resize):
        resize((image_size, image_size))


def check_input(model: nn.Module, arch: str, *, image_size: int) -> None:
    """Raise UsageError where the network cannot take pictures of ``image_size`` px: found by trying one."""
    try:
        try_out(model, image_size=image_size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise _unfit_size(arch, image_size, error) from error


def _create(arch: str, image_size: int, **options: Any) -> nn.Module:
    timm = _timm()
    if _config(arch).fixed_input_size:
        options["img_size"] = image_size
    try:
        model: nn.Module = timm.create_model(_name(arch), **options)
    except (AssertionError, TypeError, ZeroDivisionError) as error:
        raise _unfit_size(arch, image_size, error) from error
    return model


def _config(arch: str) -> Any:
    """timm's description of the weights that belong to ``arch``."""
    timm, name = _timm(), _name(arch)
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=5, cutoff=0.5)
        known = f"Near ones: {', '.join(TIMM_PREFIX + other for other in near)}." if near else ""
        raise UsageError(
            f"timm {timm.__version__} has no network '{name}' (--arch).", known or "See timm.list_models()."
        )
    try:
        return timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        raise UsageError(f"timm has no weights with the tag of '{name}' (--arch).", _tags_with_weights(name)) from error


def _tags_with_weights(name: str) -> str:
    base = name.split(".")[0]
    tags = [tag for tag in _timm().list_pretrained(f"{base}*") if tag.split(".")[0] == base]
    return f"There are: {', '.join(TIMM_PREFIX + tag for tag in tags)}." if tags else "Start from --weights FILE."


def _replace_head(model: nn.Module, arch: str, dropout: float) -> None:
    heads = head_modules(model)
    classifier = model.get_submodule(heads[0]) if len(heads) == 1 else None
    if not isinstance(classifier, nn.Linear):
        raise UsageError(
            f"{arch} does not end in one linear layer, which the lab head could replace.", "Use --head linear."
        )
    model.set_submodule(heads[0], build_lab_head(classifier.in_features, dropout=dropout))


def _unfit_size(arch: str, image_size: int, error: Exception) -> UsageError:
    reason = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
    made_for = _config(arch).input_size[-1]
    return UsageError(
        f"{arch} cannot take pictures of {image_size} px: {reason}", f"It was made for --image-size {made_for}."
    )


def _name(arch: str) -> str:
    return arch.removeprefix(TIMM_PREFIX)


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise UsageError(
            f"--arch {TIMM_PREFIX}... needs timm, which is not installed.", "Install it: pip install 'retino[timm]'"
        ) from error
    return timm
