"""Start a model from weights that exist: ImageNet's, a file's, or another run's.

The body (everything but the classifier) must fit as a whole. The classifier (``fc``) is taken only where it fits:
ImageNet's 1000 classes are not grades. A file for the other stem gives everything but the stem (``conv1`` and the
batch norm behind it, whose statistics belong to it): a 7x7 convolution cannot go into a 3x3 one, and the rest is what
fine-tuning needs.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from retino_cli.config import ARCHITECTURES
from retino_cli.errors import UsageError, WeightsError
from retino_cli.models.download import fetch, hash_file
from retino_cli.models.resnet import ResNet
from retino_cli.models.structure import head_modules

BASE_URL = "https://download.pytorch.org/models/"
IMAGENET_FILES: dict[str, str] = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
}
"""torchvision's ``IMAGENET1K_V1`` weights (https://pytorch.org/vision/stable/models.html).

ResNet50 has a V2 as well (resnet50-11ad3fa6.pth, 80.9 % in place of 76.1 % top-1 on ImageNet). V1 is taken: it is what
``pretrained=True`` meant when the lab was set, the only one that the smaller networks have, and trained by the same
plain recipe as theirs, so that a comparison of depths compares depths. V2 can be had with ``--weights FILE``.
"""

TORCH_SUFFIXES: Final = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_WRAPPINGS: Final = ("state_dict", "model_state_dict", "model", "net", "network")
_STEM: Final = re.compile(r"(conv1|bn1)\.")
# (bottleneck, blocks per stage) -> the name to call it by in messages, of more kinds than can be built.
_KNOWN: Final = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


@dataclass(frozen=True)
class _Naming:
    """How tensors are called in one kind of network. ``head``, ``body``: what the names of each begin with; body is
    what is not head. ``anchor``: the name by which a prefix before all of them is found. ``kind``: for messages."""

    head: re.Pattern[str]
    body: re.Pattern[str]
    anchor: str
    kind: str


_RESNET: Final = _Naming(
    re.compile(r"fc\."),
    re.compile(r"(conv1|bn1|layer\d)\."),
    "layer1.0.conv1.weight",
    "a ResNet in torchvision's naming",
)


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded.

    ``source``: where from, for people. ``loaded``: number of tensors taken. ``skipped``: names of the tensors that were
    there and not taken, as they are called there (an unfitting classifier or stem, other models' parts). ``sha256``:
    of the file; where there was none, of the tensors (:func:`hash_tensors`).
    """

    source: str
    loaded: int
    skipped: tuple[str, ...]
    sha256: str


def load_imagenet(model: nn.Module, arch: str, *, progress: bool = True) -> WeightsReport:
    """Load torchvision's ImageNet weights (:data:`IMAGENET_FILES`) into ``model``.

    They come from torch's cache folder (``TORCH_HOME`` is respected) or are downloaded into it, with a progress bar on
    stderr where that is a terminal. The hash in the file's name is checked. Raises UsageError for an unknown ``arch``,
    WeightsError where the file cannot be had (saying which file to put where), is damaged, or does not fit.
    """
    if arch not in IMAGENET_FILES:
        raise UsageError(f"There are no ImageNet weights for '{arch}'; there are for {', '.join(IMAGENET_FILES)}.")
    path = fetch(BASE_URL + IMAGENET_FILES[arch], progress=progress)
    return _load(model, path, source=f"ImageNet ({path.name})")


def load_file(model: nn.Module, path: Path) -> WeightsReport:
    """Load a file of weights into ``model``: safetensors, or a state dict saved by torch (:data:`TORCH_SUFFIXES`).

    Names are torchvision's, which timm shares for these networks, with or without a prefix ("module.", "backbone.",
    any other); the state dict may lie in {"state_dict": ...} or {"model": ...}. Torch files are read with
    ``weights_only=True``: tensors and plain containers, nothing that could run code. Raises WeightsError naming the
    file and what is wrong with it; the model is then unchanged.
    """
    return _load(model, path, source=str(path))


def transfer(model: nn.Module, state_dict: Mapping[str, Tensor], *, source: str, sha256: str = "") -> WeightsReport:
    """Copy ``state_dict`` into ``model``, cast to the model's dtypes; see this module's text for what is taken.

    ``source`` names the origin in the report and in messages. Raises WeightsError where the body does not fit or holds
    NaN or infinity; the model is then unchanged.
    """
    own, naming = model.state_dict(), _naming(model)
    prefix = _find_prefix(state_dict, source, naming.anchor)
    # What lies outside the prefix (a classifier beside "backbone.", say) keeps its name.
    names = {name.removeprefix(prefix): name for name in sorted(state_dict, key=lambda name: name.startswith(prefix))}
    given = {name: state_dict[original] for name, original in names.items()}
    taken = {name for name in given if name in own}
    if not _fits(given, own, naming.head):
        taken -= {name for name in taken if naming.head.match(name)}
    expected = {name for name in own if not naming.head.match(name)}
    if naming is _RESNET and _has_other_stem(given, own):
        taken -= {name for name in taken if _STEM.match(name)}
        expected -= {name for name in expected if _STEM.match(name)}
    _check_body(given, own, expected, naming, source)
    for name in sorted(taken):
        if given[name].is_floating_point() and not bool(torch.isfinite(given[name]).all()):
            raise WeightsError(f"{source}: {names[name]} holds values that are not finite (NaN or infinity).")
    model.load_state_dict({name: given[name] for name in taken}, strict=False)
    skipped = tuple(original for name, original in names.items() if name not in taken)
    return WeightsReport(source, len(taken), skipped, sha256 or hash_tensors(state_dict))


def hash_tensors(state_dict: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) over names, dtypes, shapes and bytes of the tensors, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load(model: nn.Module, path: Path, *, source: str) -> WeightsReport:
    state = _read(path)
    return transfer(model, state, source=source, sha256=hash_file(path))


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file."""
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; a file of weights is needed.", "To start from a run, use --init RUN.")
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file of weights.")
    suffix = path.suffix.lower()
    if suffix != ".safetensors" and suffix not in TORCH_SUFFIXES:
        raise WeightsError(
            f"{path}: files of weights end in .safetensors or {', '.join(TORCH_SUFFIXES)}, not in '{path.suffix}'."
        )
    try:
        if suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files make these readers raise nearly anything
        raise WeightsError(f"{path} cannot be read as weights: {_diagnose(path, error)}.", _expected(suffix)) from error
    for wrapping in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no state dict (tensors by name).", _expected(suffix))
    return tensors


def _diagnose(path: Path, error: Exception) -> str:
    """What kind of file it is that could not be read, in a few words."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as unreadable:
        return unreadable.strerror or str(unreadable)
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself (git lfs pull fetches it)"
    if not start:
        return "it is empty"
    if b"\x00" not in start and start.isascii():
        return "it is a text file"
    if isinstance(error, pickle.UnpicklingError) and re.search("Unsupported (global|class)", str(error), re.IGNORECASE):
        return "it holds Python objects beside tensors, and loading those could run code; save model.state_dict() alone"
    return f"it is cut off, damaged or of another kind ({(str(error).splitlines() or [''])[0] or type(error).__name__})"


def _expected(suffix: str) -> str:
    if suffix == ".safetensors":
        return "Expected: a safetensors file of a ResNet in torchvision's or timm's naming."
    return "Expected: torch.save(model.state_dict(), FILE) of a ResNet in torchvision's or timm's naming."


def _naming(model: nn.Module) -> _Naming:
    if isinstance(model, ResNet):
        return _RESNET
    heads = [re.escape(name) for name in head_modules(model)]
    head = re.compile(rf"({'|'.join(heads)})\.")
    body = [name for name, _ in model.named_parameters() if not head.match(name)]
    roots = {re.escape(name.split(".")[0]) for name in body}
    # A name with many parts: "conv1.weight" alone would be found within every block, too.
    anchor = max(body, key=lambda name: name.count("."))
    # A network of timm knows its name; its class may be called as another's, such as ResNet.
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    kind = f"timm's {name}" if name else f"a {type(model).__name__}"
    return _Naming(head, re.compile(rf"(?!{head.pattern})({'|'.join(sorted(roots))})(\.|$)"), anchor, kind)


def _find_prefix(state_dict: Mapping[str, Tensor], source: str, anchor: str) -> str:
    """What stands before every name of the network, found by one of them; "" where nothing does, or it is not there."""
    stages = [name.removesuffix(anchor) for name in state_dict if name.endswith(anchor)]
    if len(stages) > 1 and "" not in stages:
        raise WeightsError(
            f"{source} holds {len(stages)} networks, named {', '.join(repr(stage) for stage in stages)}.",
            "Save the one that is meant as a file of its own.",
        )
    return "" if not stages or "" in stages else stages[0]


def _fits(given: Mapping[str, Tensor], own: Mapping[str, Tensor], part: re.Pattern[str]) -> bool:
    """Whether the part has the same names and shapes on both sides."""
    return {name: tensor.shape for name, tensor in given.items() if part.match(name)} == {
        name: tensor.shape for name, tensor in own.items() if part.match(name)
    }


def _has_other_stem(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether one side has the 7x7 stem and the other one the 3x3 stem."""
    shapes = {tuple(side["conv1.weight"].shape) for side in (given, own) if "conv1.weight" in side}
    return shapes == {(64, 3, 7, 7), (64, 3, 3, 3)}


def _check_body(
    given: Mapping[str, Tensor], own: Mapping[str, Tensor], expected: set[str], naming: _Naming, source: str
) -> None:
    """Raise WeightsError where the body differs in names or shapes."""
    problem = ""
    for name in own:
        # Files older than PyTorch 0.4.1 do not count batches, and nothing here uses the count.
        if name in expected and name not in given and not name.endswith(".num_batches_tracked"):
            problem = f"{name} is missing"
        elif name in expected and name in given and given[name].shape != own[name].shape:
            problem = f"{name} has the shape {tuple(given[name].shape)} in place of {tuple(own[name].shape)}"
        if problem:
            break
    else:
        surplus = [name for name in given if naming.body.match(name) and name not in own]
        if not surplus:
            return
        problem = f"it also has {surplus[0]}"
    found, wanted = _recognise(given), _recognise(own) if naming is _RESNET else naming.kind
    asked = f", you asked for {wanted}" if wanted else ", the model is another one"
    if found and found != wanted:
        problem += f": this looks like {found}{asked}"
    elif not found:
        problem += f": this does not look like {naming.kind}{asked if naming is _RESNET else ''}"
    hint = f"Use --arch {found}." if naming is _RESNET and found != wanted and found in ARCHITECTURES else ""
    raise WeightsError(f"{source} does not fit: {problem}.", hint)


def _recognise(state_dict: Mapping[str, Tensor]) -> str | None:
    """The architecture by the number of blocks in each stage."""
    blocks: list[set[str]] = [set(), set(), set(), set()]
    for name in state_dict:
        if match := re.match(r"layer([1-4])\.(\d+)\.", name):
            blocks[int(match[1]) - 1].add(match[2])
    sizes = (len(blocks[0]), len(blocks[1]), len(blocks[2]), len(blocks[3]))
    return _KNOWN.get(("layer1.0.conv3.weight" in state_dict, sizes))
