"""Shared fixtures: real data, small synthetic data, and an isolated working folder for the MLflow store."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from retino_cli.config import TrainConfig

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side: each with all cores' threads, they would wait for each other. Commands that tests start
    # take this over as well.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder named by RETINO_REAL_DATA: ``idrid/``, ``retinamnist/``, ``lab-csv/``, ``golden/``."""
    folder = os.environ.get("RETINO_REAL_DATA", "")
    if not folder:
        pytest.skip("RETINO_REAL_DATA is not set: the tests on real photographs and label files are left out")
    path = Path(folder).resolve()
    if not path.is_dir():
        pytest.fail(f"RETINO_REAL_DATA={folder} is not a folder")
    return path


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 24 drawn patients, 48 pictures of 48 px, with train and test. Read it, never write to it."""
    from retino_cli.data.synth import write_dataset

    folder = tmp_path_factory.mktemp("synthetic") / "data"
    write_dataset(folder, patients=24, size=48, seed=5, test_fraction=0.25, workers=1)
    return folder


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of prepared pictures that all tests share which do not test it."""
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs. Copying it takes milliseconds, making one takes seconds."""
    from retino_cli.tracking.connection import Connection
    from retino_cli.tracking.location import locate

    folder = tmp_path_factory.mktemp("template")
    Connection(locate(f"sqlite:///{folder}/mlflow.db"))
    return folder / "mlflow.db"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Arithmetic on one thread: small networks are faster so on a busy machine, and sums have one order."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _isolate(monkeypatch: pytest.MonkeyPatch, folder: Path, cache: Path) -> None:
    for name in [name for name in os.environ if name.startswith("RETINO_") and name != "RETINO_REAL_DATA"]:
        monkeypatch.delenv(name)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RETINO_CACHE", str(cache))
    monkeypatch.chdir(folder)


@pytest.fixture
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path, shared_cache: Path, one_thread: None
) -> Path:
    """A current folder with an empty store, where trainings are made."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    _isolate(monkeypatch, folder, shared_cache)
    return folder


@pytest.fixture(autouse=True)
def _no_figures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty files in place of figures, which take most of a small training's time, where a test is not marked
    ``figures``."""
    if request.node.get_closest_marker("figures") is not None:
        return
    from retino_cli.figures.formats import asked_formats, parse_formats

    def save(_figure: object, path: Path, formats: Sequence[str] | None = None) -> list[Path]:
        names = asked_formats() if formats is None else parse_formats(formats)
        files = [path.with_name(f"{path.name}.{name}") for name in names]
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in files:
            file.touch()
        return files

    monkeypatch.setattr("retino_cli.figures.style.save", save)


@pytest.fixture(scope="session")
def quick(synthetic_data: Path) -> Callable[..., TrainConfig]:
    """Makes configurations of trainings that take a second or two."""
    from retino_cli.config import TrainConfig

    def make(**changes: Any) -> TrainConfig:
        chosen: dict[str, Any] = {
            "data": synthetic_data,
            "arch": "resnet18",
            "recipe": "strong",  # pictures as small as these would get "small", whose eight views take longer
            "stem": "7x7",
            "image_size": 32,
            "epochs": 1,
            "batch_size": 16,
            "lr": 0.01,
            "precision": "float32",
            "device": "cpu",
            "val_fraction": 0.25,
            "workers": 1,
        }
        return TrainConfig(**(chosen | changes))

    return make


@pytest.fixture(scope="session")
def _trained_place(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def trained_place(
    _trained_place: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared_cache: Path,
    one_thread: None,
    quick: Callable[..., TrainConfig],
) -> Path:
    """A current folder with two finished trainings, ``first`` (2 epochs, sgd) and ``second`` (1 epoch, adamw, seed 0
    too). Tests may add runs to its store, but leave these two as they are."""
    from retino_cli.training.train import train

    _isolate(monkeypatch, _trained_place, shared_cache)
    if not (_trained_place / "mlruns").exists():
        train(quick(run_name="first", epochs=2))
        train(quick(run_name="second", optimizer="adamw", lr=1e-3, loss="ce"))
    return _trained_place
