"""A trained grader on disk: weights, and everything that is needed to use them.

::

    best/
      model.safetensors      weights and batch norm statistics
      checkpoint.json        CheckpointInfo, and size and SHA-256 of the other files
      training.safetensors   optimizer state, random states     (only where training can go on from here)
      training.json          numbers and names that go with it

``checkpoint.json`` binds the files together: files of two different saves are recognised as such, and so is a damaged
one. Nothing here unpickles, so that reading a checkpoint cannot run code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from retino_cli.config import is_timm
from retino_cli.errors import TrainingError, UsageError, WeightsError
from retino_cli.models.factory import build_model
from retino_cli.models.folder_swap import locate_folder, recover_folder, replace_folder
from retino_cli.preprocess import PreprocessSpec

MODEL_FILE: Final = "model.safetensors"
INFO_FILE: Final = "checkpoint.json"
TRAINING_TENSORS_FILE: Final = "training.safetensors"
TRAINING_VALUES_FILE: Final = "training.json"
FORMAT: Final = 1
"""Version of the file layout, raised when an older retino could not read it."""

_FILES: Final = (MODEL_FILE, INFO_FILE, TRAINING_TENSORS_FILE, TRAINING_VALUES_FILE)
_UPGRADE: Final = "Use the version of retino that wrote it, or a newer one."
_READ_ATTEMPTS: Final = 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a grader is and where it comes from.

    ``arch``, ``head``, ``stem``, ``dropout``: the arguments of :func:`retino_cli.models.factory.build_model` (``stem``
    is "" for networks of timm); its ``image_size`` is that of ``preprocess``.
    ``preprocess``: how photographs must be prepared for it. ``config``: the resolved training configuration.
    ``epoch``: completed epochs. ``metrics``: by name, as of that epoch; values that are not finite are not stored.
    ``data``: name and fingerprints of the training data. ``calibration``: cut points and temperature, ``{}`` without.
    ``config``, ``data`` and ``calibration`` must be JSON-able (tuples come back as lists).
    """

    arch: str
    head: str
    stem: str
    dropout: float
    preprocess: PreprocessSpec
    config: dict[str, Any]
    epoch: int
    metrics: dict[str, float]
    data: dict[str, Any]
    calibration: dict[str, Any]
    retino_version: str

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` is its inverse."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        finite = {name: value for name, value in self.metrics.items() if math.isfinite(value)}
        return fields | {"preprocess": self.preprocess.to_dict(), "metrics": finite}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> CheckpointInfo:
        """The info that :meth:`to_dict` wrote; unknown fields are ignored. Raises WeightsError naming a bad field."""
        kinds: dict[str, type | tuple[type, ...]] = {
            "arch": str, "head": str, "stem": str, "dropout": (int, float), "preprocess": dict, "config": dict,
            "epoch": int, "metrics": dict, "data": dict, "calibration": dict, "retino_version": str,
        }  # fmt: skip
        for name, kind in kinds.items():
            if name not in fields:
                raise WeightsError(f"the field '{name}' is missing")
            if not isinstance(fields[name], kind):
                raise WeightsError(f"the field '{name}' cannot be {fields[name]!r}")
        known = {name: fields[name] for name in kinds}
        return cls(**known | {"preprocess": PreprocessSpec.from_dict(fields["preprocess"])})


@dataclass(frozen=True)
class TrainingState:
    """What training needs, beside the model, to go on as if it had never stopped.

    ``tensors``: by name, any dtype and device (read back on the CPU). ``values``: JSON-able; NaN and infinity are kept.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path, model: nn.Module, info: CheckpointInfo, *, training_state: TrainingState | None = None
) -> None:
    """Write ``folder`` whole, in place of the checkpoint that is there.

    Killed at any moment, the old or the new checkpoint is there whole; readers never see a mixture. One process may
    write a folder at a time. Raises TrainingError where it cannot be written (disk full, no permission; the old
    checkpoint is kept) or where the folder holds files that are not a checkpoint's, which would be lost.
    """
    model = _unwrap(model)
    files = {MODEL_FILE: _pack(model.state_dict())}
    if training_state is not None:
        files[TRAINING_TENSORS_FILE] = _pack(training_state.tensors)
        files[TRAINING_VALUES_FILE] = json.dumps(training_state.values, indent=1).encode()
    stamps = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    document = {"format": FORMAT, **info.to_dict(), "memory_format": _memory_format(model), "files": stamps}
    files[INFO_FILE] = json.dumps(document, indent=2, allow_nan=False).encode()
    try:
        _refuse_foreign(folder)
        replace_folder(folder, files)
    except OSError as error:
        kept = " The checkpoint of before is kept." if locate_folder(folder) else ""
        raise TrainingError(
            f"Cannot save the checkpoint {folder}: {error.strerror or error}.{kept}",
            f"Make room or grant access there ({sum(map(len, files.values())) / 1e6:,.0f} MB are needed).",
        ) from error


def load_checkpoint(folder: Path, *, device: str | torch.device = "cpu") -> tuple[nn.Module, CheckpointInfo]:
    """The model, in evaluation mode on ``device``, and its info.

    Outputs equal those of the saved model bit for bit (same device and thread count): dtype and memory format are
    restored. No random numbers are drawn. Raises WeightsError naming the file that is missing, damaged, of another
    save, or of another version.
    """
    return _read_consistently(folder, lambda place: _read_model(place, torch.device(device)))


def load_training_state(folder: Path) -> TrainingState:
    """What :func:`save_checkpoint` got as ``training_state``, on the CPU. Raises WeightsError as load_checkpoint."""
    return _read_consistently(folder, _read_training_state)


def recover_checkpoint(folder: Path) -> None:
    """Clean up after a writer that was killed, so that ``folder`` itself is there, whole, and nothing beside it.

    Loading does not need this. It is for whoever lists or copies the folder, and must not run beside a writer.
    """
    recover_folder(folder)


def _read_consistently(folder: Path, read: Callable[[Path], _T]) -> _T:
    """``read`` the folder; again where a writer replaced it meanwhile."""
    attempt = 0
    while True:
        attempt += 1
        try:
            found = locate_folder(folder)
        except OSError as error:
            raise WeightsError(f"{folder} cannot be read: {error.strerror or error}.") from error
        if found is None:
            raise WeightsError(
                f"{folder}: there is no checkpoint.", f"A checkpoint is a folder with {INFO_FILE} and {MODEL_FILE}."
            )
        try:
            return read(found[0])
        except WeightsError:
            if attempt == _READ_ATTEMPTS or locate_folder(folder) == found:
                raise


def _read_model(place: Path, device: torch.device) -> tuple[nn.Module, CheckpointInfo]:
    document = _read_document(place)
    path = place / INFO_FILE
    try:
        info = CheckpointInfo.from_dict(document)
        # The stored tensors become the parameters, dtype included. On "meta" nothing is allocated or drawn before; but
        # networks of timm compute tables while they are built (positions, windows) which are not among those tensors.
        with torch.random.fork_rng(devices=[]) if is_timm(info.arch) else torch.device("meta"):
            size = info.preprocess.image_size
            model = build_model(info.arch, head=info.head, stem=info.stem, dropout=info.dropout, image_size=size)
    except (WeightsError, UsageError) as error:
        raise WeightsError(f"{path}: {error.message}", error.hint or _UPGRADE) from error
    state = _unpack(place / MODEL_FILE, _read_bound(place, MODEL_FILE, document))
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise WeightsError(f"{place / MODEL_FILE} does not fit {info.arch} of {path}: {reason}") from error
    if document.get("memory_format") == "channels_last":
        model.to(memory_format=torch.channels_last)
    return model.to(device).eval(), info


def _read_training_state(place: Path) -> TrainingState:
    document = _read_document(place)
    if TRAINING_VALUES_FILE not in document["files"]:
        raise WeightsError(f"{place}: the checkpoint has no training state, so training cannot go on from it.")
    tensors = _unpack(place / TRAINING_TENSORS_FILE, _read_bound(place, TRAINING_TENSORS_FILE, document))
    values = json.loads(_read_bound(place, TRAINING_VALUES_FILE, document))
    return TrainingState(tensors=tensors, values=values)


def _read_document(place: Path) -> dict[str, Any]:
    path = place / INFO_FILE
    try:
        document = json.loads(_read_file(path))
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: not JSON ({error}).") from error
    if not isinstance(document, dict) or "format" not in document:
        raise WeightsError(f"{path} is not a retino checkpoint: it has no field 'format'.")
    if document["format"] != FORMAT:
        raise WeightsError(f"{path} has format {document['format']!r}; this retino reads format {FORMAT}.", _UPGRADE)
    if not isinstance(document.get("files"), dict) or MODEL_FILE not in document["files"]:
        raise WeightsError(f"{path} is damaged: the field 'files' does not list {MODEL_FILE}.")
    return document


def _read_bound(place: Path, name: str, document: Mapping[str, Any]) -> bytes:
    """The content of a file, which must be the one that ``checkpoint.json`` was written with."""
    path = place / name
    data = _read_file(path)
    stamp = document["files"].get(name)
    expected = stamp if isinstance(stamp, dict) else {}
    if len(data) != expected.get("bytes"):
        raise WeightsError(
            f"{path} is cut off, or not the file that belongs to {INFO_FILE}: "
            f"it has {len(data):,} bytes in place of {expected.get('bytes')!r}."
        )
    if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
        raise WeightsError(f"{path} is damaged, or not the file that belongs to {INFO_FILE}: its SHA-256 differs.")
    return data


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing.") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as safetensors, which wants them contiguous and none sharing memory."""
    packed: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        if plain.untyped_storage().data_ptr() in seen:
            plain = plain.clone()
        seen.add(plain.untyped_storage().data_ptr())
        packed[name] = plain
    data: bytes = safetensors.torch.save(packed)
    return data


def _unpack(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise WeightsError(f"{path} is damaged: {error}.") from error
    # Cloned into memory of torch's own, aligned for its kernels.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _unwrap(model: nn.Module) -> nn.Module:
    """The model inside torch.compile's and DistributedDataParallel's wrappers, which prefix every name."""
    while True:
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _memory_format(model: nn.Module) -> str:
    """How the convolutions' weights are laid out: channels_last or contiguous."""
    weights = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d)]
    last = any(w.is_contiguous(memory_format=torch.channels_last) and not w.is_contiguous() for w in weights)
    return "channels_last" if last else "contiguous"


def _refuse_foreign(folder: Path) -> None:
    """Saving replaces the whole folder: stop before that takes somebody's files along."""
    if not folder.exists():
        return
    foreign = [str(folder)] if not folder.is_dir() else sorted(p.name for p in folder.iterdir() if p.name not in _FILES)
    if foreign:
        raise TrainingError(
            f"Cannot save a checkpoint as {folder}: it holds something else ({', '.join(foreign[:3])}).",
            "Name a folder that does not exist, or one that holds a checkpoint.",
        )
