"""retino trains, judges and compares graders of diabetic retinopathy on colour fundus photographs.

Not a medical device. The public names below are loaded when they are first used, so that ``import retino_cli`` is
quick::

    from retino_cli import TrainConfig, train, evaluate, compare

    result = train(TrainConfig(data="data", arch="resnet18", epochs=3))
    print(evaluate(result.run_id, split="test").metrics["qwk"])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from retino_cli.config import TrainConfig as TrainConfig
    from retino_cli.data.inspect import inspect_manifest as inspect_manifest
    from retino_cli.data.manifest import Manifest as Manifest
    from retino_cli.data.manifest import load_manifest as load_manifest
    from retino_cli.errors import RetinoError as RetinoError
    from retino_cli.evaluation.compare import compare as compare
    from retino_cli.evaluation.comparison import Comparison as Comparison
    from retino_cli.evaluation.evaluate import evaluate as evaluate
    from retino_cli.evaluation.evaluate_file import evaluate_predictions as evaluate_predictions
    from retino_cli.evaluation.evaluation import Evaluation as Evaluation
    from retino_cli.evaluation.prediction import predict_images as _predict_images
    from retino_cli.export.export import export_grader as export_grader
    from retino_cli.lab import run_lab as run_lab
    from retino_cli.training.repeats import train_repeats as train_repeats
    from retino_cli.training.train import TrainResult as TrainResult
    from retino_cli.training.train import train as train

    predict = _predict_images

_HOMES = {
    "Comparison": "evaluation.comparison",
    "Evaluation": "evaluation.evaluation",
    "Manifest": "data.manifest",
    "RetinoError": "errors",
    "TrainConfig": "config",
    "TrainResult": "training.train",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "evaluate_predictions": "evaluation.evaluate_file",
    "export_grader": "export.export",
    "inspect_manifest": "data.inspect",
    "load_manifest": "data.manifest",
    "predict": "evaluation.prediction:predict_images",
    "run_lab": "lab",
    "train": "training.train",
    "train_repeats": "training.repeats",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'retino_cli' has no attribute '{name}'")
    home, _, original = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"retino_cli.{home}"), original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
