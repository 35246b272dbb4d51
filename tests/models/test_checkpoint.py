"""Checkpoints: what goes in comes out bit for bit; a killed, interrupted or failing writer costs nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retino_cli.errors import TrainingError, WeightsError
from retino_cli.models import checkpoint, folder_swap
from retino_cli.models.checkpoint import (
    CheckpointInfo,
    TrainingState,
    load_checkpoint,
    load_training_state,
    recover_checkpoint,
    save_checkpoint,
)
from retino_cli.models.factory import build_model
from retino_cli.models.resnet import ResNet
from retino_cli.preprocess import PreprocessSpec

INFO = CheckpointInfo(
    arch="resnet18",
    head="lab",
    stem="3x3",
    dropout=0.3,
    preprocess=PreprocessSpec(image_size=28, crop="none", mean=(0, 0, 0), std=(1, 1, 1)),
    config={"lr": 0.1, "epochs": 3, "recipe": "lab"},
    epoch=2,
    metrics={"val/qwk": 0.1 + 0.2, "val/loss": 1.25},
    data={"name": "retinamnist", "fingerprint": "0123456789ab"},
    calibration={},
    retino_version="0.1.0",
)


def trained_model(info: CheckpointInfo = INFO, *, seed: int = 0) -> ResNet:
    """A model whose batch norm statistics have moved away from 0 and 1."""
    torch.manual_seed(seed)
    model = build_model(info.arch, head=info.head, stem=info.stem, dropout=info.dropout)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, 32, 32))
    return model.eval()


@pytest.fixture(scope="module")
def model() -> ResNet:
    return trained_model()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, model: ResNet) -> Path:
    path = tmp_path_factory.mktemp("saved") / "best"
    save_checkpoint(path, model, INFO, training_state=TrainingState({"momentum": torch.arange(4.0)}, {"epoch": 2}))
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A checkpoint that the test may damage."""
    return shutil.copytree(saved, tmp_path / "best")


@pytest.mark.parametrize(
    ("arch", "memory_format", "dtype"),
    [
        ("resnet18", torch.contiguous_format, torch.float32),
        ("resnet18", torch.channels_last, torch.bfloat16),
        ("resnet50", torch.channels_last, torch.float32),
    ],
)
def test_outputs_come_back_bit_for_bit(
    arch: str, memory_format: torch.memory_format, dtype: torch.dtype, tmp_path: Path
) -> None:
    info = dataclasses.replace(INFO, arch=arch, head="linear", stem="7x7")
    model = trained_model(info).to(dtype=dtype, memory_format=memory_format)
    images = torch.randn(2, 3, 64, 64).to(dtype=dtype, memory_format=memory_format)
    save_checkpoint(tmp_path / "best", model, info)
    random_state = torch.get_rng_state()
    loaded, loaded_info = load_checkpoint(tmp_path / "best")
    assert torch.equal(torch.get_rng_state(), random_state), "loading draws no random numbers"
    assert loaded_info == info
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))
    for (name, expected), (other, actual) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other
        assert (actual.dtype, actual.stride()) == (expected.dtype, expected.stride()), name
        assert torch.equal(actual, expected), name


def test_loaded_model_can_be_trained(folder: Path) -> None:
    loaded, _ = load_checkpoint(folder)
    before = loaded.conv1.weight.clone()
    optimizer = torch.optim.SGD(loaded.parameters(), lr=0.1)
    loaded.train()(torch.randn(2, 3, 28, 28)).sum().backward()
    optimizer.step()
    assert not torch.equal(loaded.conv1.weight, before)


def test_training_state_comes_back(tmp_path: Path, model: ResNet) -> None:
    shared = torch.randn(3, 4)
    tensors = {
        "whole": shared,
        "again": shared,
        "column": shared[:, 1],
        "rng": torch.get_rng_state(),
        "half": torch.randn(2, 3, 4, 5).to(torch.bfloat16, memory_format=torch.channels_last),
        "step": torch.tensor(7),
        "empty": torch.empty(0),
    }
    values = {"epoch": 3, "best": -math.inf, "lr": 0.1 + 0.2, "names": ["a", "b"], "stopped": None}
    save_checkpoint(tmp_path / "last", model, INFO, training_state=TrainingState(tensors, values))
    state = load_training_state(tmp_path / "last")
    assert state.values == values
    assert state.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert state.tensors[name].dtype == tensor.dtype
        assert torch.equal(state.tensors[name], tensor), name


def test_files_are_plain_safetensors_and_json(folder: Path, model: ResNet) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors", "checkpoint.json", "training.safetensors", "training.json"
    }  # fmt: skip
    assert torch.equal(load_file(folder / "model.safetensors")["conv1.weight"], model.conv1.weight)
    document = json.loads((folder / "checkpoint.json").read_text())
    assert document["preprocess"] == INFO.preprocess.to_dict()
    assert document["metrics"] == INFO.metrics


def test_metrics_that_are_not_finite_are_left_out(tmp_path: Path, model: ResNet) -> None:
    info = dataclasses.replace(INFO, metrics={"val/qwk": math.nan, "val/loss": math.inf, "val/accuracy": 0.5})
    save_checkpoint(tmp_path / "best", model, info)
    assert load_checkpoint(tmp_path / "best")[1].metrics == {"val/accuracy": 0.5}


def test_wrapped_model_is_saved_as_itself(tmp_path: Path, model: ResNet) -> None:
    save_checkpoint(tmp_path / "best", torch.nn.DataParallel(model), INFO)
    loaded, _ = load_checkpoint(tmp_path / "best")
    assert torch.equal(loaded.conv1.weight, model.conv1.weight)


def test_saving_replaces_the_whole_folder(folder: Path, model: ResNet) -> None:
    save_checkpoint(folder, model, dataclasses.replace(INFO, epoch=3))
    assert load_checkpoint(folder)[1].epoch == 3
    with pytest.raises(WeightsError, match="has no training state"):
        load_training_state(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_symbolic_link_stays_a_link(folder: Path, model: ResNet) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    save_checkpoint(link, model, dataclasses.replace(INFO, epoch=3))
    assert link.is_symlink()
    assert load_checkpoint(folder)[1].epoch == 3


def test_folder_with_other_files_is_not_replaced(tmp_path: Path, model: ResNet) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(TrainingError, match=r"holds something else \(thesis.tex\)"):
        save_checkpoint(tmp_path, model, INFO)
    with pytest.raises(TrainingError, match="holds something else"):
        save_checkpoint(tmp_path / "thesis.tex", model, INFO)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


# ---- damaged checkpoints ---------------------------------------------------------------------------------------------


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def of_another_save(folder: Path) -> None:
    """The same sizes and names, other values: what a reader would get that mixes two checkpoints."""
    save_file({n: t + 1 for n, t in load_file(folder / "model.safetensors").items()}, folder / "model.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors", "is missing"),
    "cut off": (lambda f: os.truncate(f / "model.safetensors", 1000), "model.safetensors", "cut off"),
    "bit flipped": (lambda f: flip_bit(f / "model.safetensors"), "model.safetensors", "SHA-256 differs"),
    "other weights": (of_another_save, "model.safetensors", "SHA-256 differs"),
    "no info": (lambda f: (f / "checkpoint.json").unlink(), "checkpoint.json", "is missing"),
    "info cut off": (lambda f: os.truncate(f / "checkpoint.json", 100), "checkpoint.json", "not JSON"),
    "info is a list": (
        lambda f: (f / "checkpoint.json").write_text("[]"),
        "checkpoint.json",
        "not a retino checkpoint",
    ),
    "other format": (lambda f: edit(f / "checkpoint.json", format=2), "checkpoint.json", "reads format 1"),
    "no stamps": (lambda f: edit(f / "checkpoint.json", files={}), "checkpoint.json", "does not list"),
    "bad stamp": (
        lambda f: edit(f / "checkpoint.json", files={"model.safetensors": 1}),
        "model.safetensors",
        "cut off",
    ),
    "unknown arch": (lambda f: edit(f / "checkpoint.json", arch="vgg16"), "checkpoint.json", "'vgg16'"),
    "other arch": (
        lambda f: edit(f / "checkpoint.json", arch="resnet34"),
        "model.safetensors",
        "does not fit resnet34",
    ),
    "other head": (lambda f: edit(f / "checkpoint.json", head="linear"), "model.safetensors", "does not fit"),
    "bad epoch": (lambda f: edit(f / "checkpoint.json", epoch="2"), "checkpoint.json", "'epoch' cannot be '2'"),
    "newer preprocessing": (
        lambda f: edit(f / "checkpoint.json", preprocess=INFO.preprocess.to_dict() | {"version": 99}),
        "checkpoint.json",
        "version 99",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_checkpoint_is_named(damage: str, folder: Path) -> None:
    apply, name, expected = DAMAGES[damage]
    apply(folder)
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(folder)
    assert str(folder / name) in caught.value.message
    assert expected in caught.value.message


def test_missing_field_is_named(folder: Path) -> None:
    path = folder / "checkpoint.json"
    document = json.loads(path.read_text())
    del document["preprocess"]
    path.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match="'preprocess' is missing"):
        load_checkpoint(folder)


@pytest.mark.parametrize("name", ["training.safetensors", "training.json"])
def test_damaged_training_state_is_named(name: str, folder: Path) -> None:
    flip_bit(folder / name)
    with pytest.raises(WeightsError, match=name):
        load_training_state(folder)
    load_checkpoint(folder)  # the model can still be used


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "absent")
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="file"):
        load_checkpoint(tmp_path / "file")


# ---- writers that fail, are interrupted, are killed, are overtaken ---------------------------------------------------


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """Writing more to a file than this fails with an OSError from the system, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_keeps_the_old_checkpoint(folder: Path, model: ResNet) -> None:
    with (
        file_size_limit(1_000_000),
        pytest.raises(TrainingError, match=r"Cannot save .*best: .* before is kept") as caught,
    ):
        save_checkpoint(folder, model, dataclasses.replace(INFO, epoch=3))
    assert "45 MB are needed" in caught.value.hint
    assert load_checkpoint(folder)[1].epoch == 2
    assert load_training_state(folder).values == {"epoch": 2}
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_parent_that_is_a_file(folder: Path, model: ResNet) -> None:
    with pytest.raises(TrainingError, match="Cannot save"):
        save_checkpoint(folder / "checkpoint.json" / "best", model, INFO)


@pytest.mark.parametrize("rename", [0, 1])
@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_around_each_rename(
    rename: int, after: bool, folder: Path, model: ResNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = os.rename, iter(range(10))

    def interrupted(source: Path, target: Path) -> None:
        hit = next(calls) == rename
        if hit and not after:
            raise KeyboardInterrupt
        original(source, target)
        if hit:
            raise KeyboardInterrupt

    monkeypatch.setattr(folder_swap.os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(folder, model, dataclasses.replace(INFO, epoch=3))
    assert load_checkpoint(folder)[1].epoch == (3 if (rename, after) == (1, True) else 2)
    assert [path.name for path in folder.parent.iterdir()] == ["best"]


KILLED = '''
"""Save epoch 2 over epoch 1, killed before the n-th thing that it asks of the file system, for every n."""
import dataclasses, os, signal, sys
from pathlib import Path
import torch
from retino_cli.models import checkpoint
from retino_cli.models.checkpoint import CheckpointInfo, TrainingState, load_checkpoint, load_training_state
from retino_cli.preprocess import PreprocessSpec

torch.set_num_threads(1)
root = Path(sys.argv[1])
folder = root / "best"

class Small(torch.nn.Module):
    """In place of a ResNet, so that many saves are quick: what is tested is the files."""
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(1000, 5)

checkpoint.build_model = lambda arch, **parts: Small()
model = Small()
info = CheckpointInfo("resnet18", "linear", "3x3", 0.0, PreprocessSpec(), {}, 1, {}, {}, {}, "0")

def save(epoch):
    with torch.no_grad():
        model.fc.bias.fill_(epoch)
    state = TrainingState({"epoch": torch.tensor(epoch)}, {"epoch": epoch})
    checkpoint.save_checkpoint(folder, model, dataclasses.replace(info, epoch=epoch), training_state=state)

def epochs():
    loaded, found = load_checkpoint(folder)
    state = load_training_state(folder)
    return {int(loaded.fc.bias[0]), found.epoch, int(state.tensors["epoch"]), state.values["epoch"]}

seen = []
for n in range(1, 200):
    save(1)
    pid = os.fork()
    if pid == 0:
        calls = 0
        def kill(event, arguments):
            global calls
            if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"):
                calls += 1
                if calls == n:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(kill)
        save(2)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    found = epochs()
    assert found in ({1}, {2}), found
    if n % 3 == 0:
        checkpoint.recover_checkpoint(folder)
        assert os.listdir(root) == ["best"]
        assert epochs() == found
    if status == 0:
        assert found == {2}
        break
    assert os.WTERMSIG(status) == signal.SIGKILL
    seen += found
save(3)
assert epochs() == {3}
assert os.listdir(root) == ["best"], os.listdir(root)
print(n, *seen)
'''


def test_killed_at_any_moment(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    kills, *epochs = result.stdout.split()
    assert int(kills) > 10, "the writer does at least this many things"
    assert epochs == sorted(epochs), "the old one until a certain moment, the new one from there on"
    assert set(epochs) == {"1", "2"}


def test_killed_between_the_renames(folder: Path) -> None:
    aside = folder.parent / ".best.old"
    folder.rename(aside)
    (folder.parent / ".best.new-0123456789ab").mkdir()
    assert load_checkpoint(folder)[1] == INFO
    assert load_training_state(folder).values == {"epoch": 2}
    assert aside.is_dir(), "reading changes nothing"
    recover_checkpoint(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["best"]
    assert load_checkpoint(folder)[1] == INFO


def test_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    folder, stop, errors = tmp_path / "last", threading.Event(), []
    model = build_model("resnet18", stem="3x3", head="lab")

    def save(epoch: int) -> None:
        with torch.no_grad():
            model.conv1.weight.fill_(epoch)
        state = TrainingState({"epoch": torch.tensor(epoch)}, {"epoch": epoch})
        save_checkpoint(folder, model, dataclasses.replace(INFO, epoch=epoch), training_state=state)

    def write() -> None:
        epoch = 1
        try:
            while not stop.is_set():
                epoch += 1
                save(epoch)
        except BaseException as error:
            errors.append(error)

    save(1)
    thread = threading.Thread(target=write)
    thread.start()
    seen = []
    try:
        for _ in range(12):
            loaded, info = load_checkpoint(folder)
            assert loaded.conv1.weight.unique().tolist() == [info.epoch]
            state = load_training_state(folder)
            assert int(state.tensors["epoch"]) == state.values["epoch"] >= info.epoch
            seen.append(info.epoch)
    finally:
        stop.set()
        thread.join()
    assert errors == []
    assert seen == sorted(seen)
    assert len(set(seen)) > 1, "reader and writer ran at the same time"


def test_reader_that_is_overtaken_reads_again(folder: Path, model: ResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is replaced after checkpoint.json was read and before the weights are."""
    original, calls = checkpoint._read_document, []

    def overtaken(place: Path) -> dict[str, Any]:
        document = original(place)
        if not calls:
            save_checkpoint(folder, trained_model(seed=1), dataclasses.replace(INFO, epoch=3))
        calls.append(document["epoch"])
        return document

    monkeypatch.setattr(checkpoint, "_read_document", overtaken)
    loaded, info = load_checkpoint(folder)
    assert calls == [2, 3]
    assert info.epoch == 3
    assert torch.equal(loaded.conv1.weight, trained_model(seed=1).conv1.weight)
