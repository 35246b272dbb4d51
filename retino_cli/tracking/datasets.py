"""Dataset inputs of a run: which images it was trained, validated and tested on, as MLflow shows and filters them.

One input for each split. MLflow tells data sets apart by name and digest, and keeps one input for each: the digest is
the fingerprint of the split's own images, so that the three splits of a data set are three inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput

from retino_cli.tracking.connection import LOGGING, Connection

if TYPE_CHECKING:
    from retino_cli.data.summary import SplitSummary
    from retino_cli.tracking.spool import Entry

CONTEXTS: Final = {"train": "training", "val": "validation", "test": "testing"}
"""What a split is there for, in a training. What an evaluation judges by is "testing", whatever the split."""
_CONTEXT_TAG: Final = "mlflow.data.context"
_MOST: Final = {"name": 500, "digest": 36, "source": 60_000}
_SCHEMA: Final = {
    "mlflow_colspec": [
        {"type": "string", "name": "image_id", "required": True},
        {"type": "integer", "name": "grade", "required": True},
        {"type": "string", "name": "patient_id", "required": False},
        {"type": "string", "name": "eye", "required": False},
    ]
}


def pack_inputs(inputs: Iterable[tuple[SplitSummary, str]], models: Iterable[str] = ()) -> Entry:
    """The entry that :func:`send_inputs` sends: data sets with their contexts, and the ids of logged models."""
    return {
        "type": "inputs",
        "datasets": [
            {
                "name": summary.name[: _MOST["name"]],
                "digest": summary.fingerprint[: _MOST["digest"]],
                "source": json.dumps({"uri": summary.source})[: _MOST["source"]],
                "profile": json.dumps(summary.profile()),
                "context": context,
            }
            for summary, context in inputs
        ],
        "models": list(models),
    }


def send_inputs(connection: Connection, run_id: str, entry: Entry) -> None:
    """Send them. A second time does no harm: MLflow keeps one input for each name and digest."""
    inputs: list[Any] = [
        DatasetInput(
            Dataset(
                name=one["name"],
                digest=one["digest"],
                source_type="local",
                source=one["source"],
                schema=json.dumps(_SCHEMA),
                profile=one["profile"],
            ),
            [InputTag(_CONTEXT_TAG, one["context"])],
        )
        for one in entry["datasets"]
    ]
    connection.call(
        connection.client.log_inputs,
        run_id,
        datasets=inputs,
        models=[LoggedModelInput(model_id) for model_id in entry["models"]],
        limits=LOGGING,
    )
