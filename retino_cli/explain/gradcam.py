"""Grad-CAM: where in a picture the evidence for a grade lies.

Of a score y (a grade's logit, say) and the last map A (B, C, h, w) of the network, with a_k the mean of dy/dA_k over
the map's places:

    M = ReLU(sum over k of a_k A_k)

Source: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV
2017, equations 1 and 2. What a map shows is as coarse as A, 32 pixels of the input in most networks (8 in ResNets
with the 3x3 stem, 16 in many vision transformers), however smoothly it is enlarged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from retino_cli.errors import UsageError
from retino_cli.evaluation.inference import batch_logits, compute_fitting
from retino_cli.grades import GRADES, REFERABLE_GRADE
from retino_cli.models.ensemble import Ensemble
from retino_cli.models.structure import TargetLayer, target_layer
from retino_cli.preprocess import PreprocessSpec, normalise, to_float
from retino_cli.runtime import Runtime

NamedTarget = Literal["predicted", "referable"]
TARGETS: Final = (*get_args(NamedTarget), *(str(grade) for grade in GRADES))


def parse_target(text: str) -> NamedTarget | int:
    """One of ``TARGETS`` -> "predicted", "referable" or a grade. Raises ``UsageError`` for anything else."""
    clean = text.strip().lower()
    if clean not in TARGETS:
        raise UsageError(f"--target {text}: there is no such score.", f"Choose one of {', '.join(TARGETS)}.")
    if clean in ("predicted", "referable"):
        return clean  # type: ignore[return-value] # mypy does not narrow a str by a tuple
    return int(clean)


def heat_maps(
    model: nn.Module,
    images: Tensor,
    spec: PreprocessSpec,
    runtime: Runtime,
    *,
    target: NamedTarget | int | np.ndarray = "predicted",
) -> np.ndarray:
    """Grad-CAM of uint8 pictures (B, 3, S, S), any device -> (B, S, S) float32 in [0, 1].

    ``target``: the score y that is explained: "predicted", the logit of each picture's most probable grade;
    "referable", the log-odds of referable DR, log(p / (1 - p)) with p = p2 + p3 + p4; a grade, its logit; or grades
    (B,), one for each picture.

    Each map is enlarged bicubically from (h, w) and divided by its largest value, so that maps show places, and are not
    to be compared in strength. A map without any positive value is 0 everywhere, as is one of values that are not
    finite. The arithmetic is float32 whatever ``runtime.precision`` says. A picture's map does not depend on those
    beside it, but for rounding. Memory is that of a prediction of the same pictures, and in the same way pictures go in
    pieces where it is short.

    The map of an :class:`~retino_cli.models.ensemble.Ensemble` is the mean of its members' maps, divided by its largest
    value in turn; each member explains its own score, and where ``target`` is "predicted" that of the ensemble's grade.

    The model is put into evaluation mode; its gradients are left alone. Raises ``UsageError`` for a network without a
    map, and for grades that are none.
    """
    _check_target(target, len(images))
    if len(images) == 0:
        return np.zeros((0, spec.image_size, spec.image_size), dtype=np.float32)
    model.eval()
    if isinstance(model, Ensemble):
        if isinstance(target, str) and target == "predicted":
            device_images = images.to(runtime.device)
            target = batch_logits(model, device_images, spec, runtime).argmax(dim=1).cpu().numpy()
        each = [heat_maps(member, images, spec, runtime, target=target) for member in model.members]
        return _divide_by_largest(torch.from_numpy(np.mean(each, axis=0))).numpy()
    layer = target_layer(model, image_size=spec.image_size)
    device = runtime.device
    # A caller may hold everything in inference mode or in autocast; gradients want neither.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        grades = None if isinstance(target, str) else torch.tensor(np.broadcast_to(target, len(images)).astype(int))

        def compute(rows: slice) -> Tensor:
            inputs = normalise(to_float(images[rows].to(device)), spec)
            score = _choose_score(target if grades is None else grades[rows].to(device))
            return grad_cam(model, layer, inputs, score).cpu()

        maps = compute_fitting(model, len(images), compute, spec=spec, runtime=runtime)  # (B, h, w)
        return enlarge(maps, spec.image_size).numpy()


def grad_cam(model: nn.Module, layer: TargetLayer, inputs: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """M of normalised inputs (B, 3, S, S): (B, h, w) float32, at least 0, of any scale.

    ``score`` turns logits (B, 5) into y (B,). The model must be in evaluation mode, so that y of one picture does not
    depend on the others.
    """
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # The body before the map needs no gradient, so none of its activations is kept; from here on all is recorded.
        leaf = output.detach().requires_grad_()
        leaves.append(leaf)
        torch.set_grad_enabled(True)
        return leaf.clone()  # what follows may work in place

    hook = layer.module.register_forward_hook(cut)
    try:
        with torch.no_grad():
            total = score(model(inputs)).sum()
            (gradient,) = torch.autograd.grad(total, leaves[-1])
    finally:
        hook.remove()
    maps, slopes = layer.to_map(leaves[-1].detach()), layer.to_map(gradient)  # (B, C, h, w)
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1).clamp_min(0.0)


def enlarge(maps: Tensor, size: int) -> Tensor:
    """Maps (B, h, w), at least 0 -> (B, size, size) in [0, 1], the largest value of each being 1; or all 0."""
    finite = torch.where(torch.isfinite(maps).all(dim=(1, 2), keepdim=True), maps, 0.0)
    # Scaled before, too: sums of very large values would overflow, very small ones vanish.
    smooth = nn.functional.interpolate(
        _divide_by_largest(finite)[:, None], size=(size, size), mode="bicubic", align_corners=False
    )[:, 0]
    return _divide_by_largest(smooth.clamp_min(0.0))  # bicubic swings below 0 beside a peak


def _divide_by_largest(maps: Tensor) -> Tensor:
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, maps / torch.where(largest > 0, largest, 1.0), 0.0)


def _check_target(target: NamedTarget | int | np.ndarray, n: int) -> None:
    if isinstance(target, str):
        if target not in get_args(NamedTarget):
            raise UsageError(f"target {target!r}: there is no such score.", f"Choose one of {', '.join(TARGETS)}.")
    elif np.shape(target) not in ((), (n,)) or not np.isin(target, GRADES).all():
        raise UsageError(f"target {target!r}: must be a grade 0 to 4, or one for each of {n} pictures.")


def _choose_score(target: NamedTarget | int | np.ndarray | Tensor) -> Callable[[Tensor], Tensor]:
    if isinstance(target, Tensor):
        grades = target
        return lambda logits: logits.gather(1, grades[:, None])[:, 0]
    if target == "referable":
        return referable_log_odds
    return lambda logits: logits.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0]


def referable_log_odds(logits: Tensor) -> Tensor:
    """Logits (B, 5) -> log(p / (1 - p)) of referable DR (B,), p being the probability of grade 2 or more."""
    return logits[:, REFERABLE_GRADE:].logsumexp(dim=1) - logits[:, :REFERABLE_GRADE].logsumexp(dim=1)
