"""How a grader is made up, whichever backbone it has: head, stages from the input on, and the last map that it sees.

Freezing, layer-wise learning rates, loading of weights and Grad-CAM ask here, and know nothing of architectures.
Networks of timm tell of themselves: ``get_classifier`` names the head, ``group_matcher`` the stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from retino_cli.errors import UsageError
from retino_cli.models.resnet import ResNet


@dataclass(frozen=True)
class Stage:
    """A part of the body. ``parameters``: their names in the model, in its order."""

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class TargetLayer:
    """Where Grad-CAM looks. ``to_map`` turns the output of ``module`` into a map (B, C, h, w), differentiably: nothing
    to do in convolutional networks; others give channels last, or tokens (B, n + h w, C)."""

    name: str
    module: nn.Module
    to_map: Callable[[Tensor], Tensor]


def head_modules(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that are the classifier: ``fc``; timm's own names (two in distilled transformers)."""
    if isinstance(model, ResNet):
        return ("fc",)
    classifier = _of_timm(model, "get_classifier")()
    wanted = {id(module) for module in (classifier if isinstance(classifier, tuple) else (classifier,))}
    return tuple(name for name, module in model.named_modules() if id(module) in wanted)


def head_parameters(model: nn.Module) -> tuple[str, ...]:
    """Names of the classifier's parameters."""
    heads = tuple(f"{name}." for name in head_modules(model))
    return tuple(name for name, _ in model.named_parameters() if name.startswith(heads))


def body_stages(model: nn.Module) -> tuple[Stage, ...]:
    """Everything but the head, from the input on: the stem and the four stages of a ResNet; of a transformer, the
    embedding and each block. What stands between the last stage and the head, a norm say, belongs to that stage."""
    names = [name for name, _ in model.named_parameters()]
    if isinstance(model, ResNet):
        layers = [f"layer{number}" for number in (1, 2, 3, 4)]
        groups = {layer: [name for name in names if name.startswith(f"{layer}.")] for layer in layers}
        groups = {"stem": [name for name in names if name.startswith(("conv1.", "bn1."))], **groups}
    else:
        groups = _timm_groups(model)
    return tuple(Stage(name, tuple(parameters)) for name, parameters in groups.items())


def _timm_groups(model: nn.Module) -> dict[str, list[str]]:
    from timm.models import group_parameters

    head = set(head_parameters(model))
    matching = _of_timm(model, "group_matcher")
    try:
        matcher = matching(coarse=True)
    except (AssertionError, NotImplementedError):  # some know their blocks only
        matcher = matching(coarse=False)
    groups: list[list[str]] = []
    for number, found in sorted(group_parameters(model, matcher).items()):
        names = [name for name in found if name not in head]
        if number and len(names) < len(found) and groups:
            groups[-1] += names  # timm counts what it has no stage for to the head
        elif names:
            groups.append(names)
    return {"stem" if number == 0 else f"stage {number}": names for number, names in enumerate(groups)}


def target_layer(model: nn.Module, *, image_size: int) -> TargetLayer:
    """The last module whose output is still a map: ``layer4``; in networks of timm, what a trial on one black picture
    shows to be the last map of more than one pixel. The picture has ``image_size`` px, or the size that the network was
    made for where that is larger: of a small one, the last map may be a single pixel.

    In vision transformers it is the first norm of the last block: behind the attention of that block only the class
    token goes on to the head, so that the gradient by the other tokens is zero there.

    Raises UsageError for networks that have tokens in another form.
    """
    if isinstance(model, ResNet):
        return TargetLayer("layer4", model.layer4, _as_it_is)
    shapes = _output_shapes(model, _trial_size(model, image_size))
    found = _find_tokens(model, shapes)
    for name, shape in reversed(shapes):
        if found is not None or (len(shape) == 3 and shape[1] > 1):
            break  # tokens of a form that is not known: a map before them is the embedding only
        last = len(shape) == 4 and _is_channels_last(model, shape)
        if len(shape) == 4 and math.prod(shape[1:3] if last else shape[2:]) > 1:
            found = TargetLayer(name, model.get_submodule(name), _channels_first if last else _as_it_is)
    if found is None:
        raise UsageError(
            f"{type(model).__name__} shows no map that Grad-CAM could use at {image_size} px.",
            "Convolutional networks and plain vision transformers do.",
        )
    return found


def _trial_size(model: nn.Module, image_size: int) -> int:
    description: dict[str, Any] = getattr(model, "pretrained_cfg", {})
    fixed = description.get("fixed_input_size", False)
    return image_size if fixed else max(image_size, description.get("input_size", (3, 0, 0))[-1])


def _output_shapes(model: nn.Module, image_size: int) -> list[tuple[str, tuple[int, ...]]]:
    """Module and shape of its output, in the order in which a picture of ``image_size`` px passes them."""
    shapes: list[tuple[str, tuple[int, ...]]] = []

    def look(name: str, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes.append((name, tuple(output.shape)))

    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: look(name, output))
        for name, module in model.named_modules()
    ]
    try:
        try_out(model, image_size=image_size)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _find_tokens(model: nn.Module, shapes: list[tuple[str, tuple[int, ...]]]) -> TargetLayer | None:
    """The layer of a plain vision transformer, whose tokens are those of the patches, row by row, behind others."""
    blocks, grid = getattr(model, "blocks", None), getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList) or grid is None:
        return None
    height, width = grid
    name = f"blocks.{len(blocks) - 1}.norm1"
    if not any(seen == name and len(shape) == 3 and shape[1] >= height * width for seen, shape in shapes):
        return None

    def to_map(tokens: Tensor) -> Tensor:
        patches = tokens[:, -height * width :]  # (B, h w, C)
        return patches.transpose(1, 2).reshape(len(patches), -1, height, width)

    return TargetLayer(name, model.get_submodule(name), to_map)


def try_out(model: nn.Module, *, image_size: int) -> Tensor:
    """Logits (1, 5) of one black picture, in evaluation mode; the model is left as it was."""
    parameter = next(model.parameters())
    picture = torch.zeros(1, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype)
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            logits: Tensor = model.eval()(picture)
    finally:
        for module, training in modes.items():
            module.training = training
    return logits


def _is_channels_last(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether an output (B, ., ., .) is (B, h, w, C). Not every network that has it so says so."""
    features = getattr(model, "num_features", None)
    said = str(getattr(model, "output_fmt", "")).endswith("NHWC")
    return said or (shape[3] == features and shape[1] != features)


def _as_it_is(output: Tensor) -> Tensor:
    return output


def _channels_first(output: Tensor) -> Tensor:
    return output.permute(0, 3, 1, 2)


def _of_timm(model: nn.Module, name: str) -> Callable[..., Any]:
    method: Callable[..., Any] | None = getattr(model, name, None)
    if method is None:
        raise UsageError(f"{type(model).__name__} does not say what its parts are: it has no {name}().")
    return method
