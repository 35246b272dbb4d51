"""What a server runs: photographs in, answers out. MLflow copies this file into the folder of a served grader."""

# Without `from __future__ import annotations`: MLflow reads the types of `predict` themselves, not their names.
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from retino_cli.data.image_list import NamedImage
from retino_cli.data.pictures import EncodedPicture
from retino_cli.evaluation.exported import ExportedGrader, open_exported
from retino_cli.evaluation.prediction import predict_each
from retino_cli.evaluation.predictions import PROBABILITY_COLUMNS
from retino_cli.tracking.packaging import GRADER, IMAGE, REFER


class ServedGrader(PythonModel):
    """One row of answers for each picture, in order. A picture that cannot be read has an error, and null for the
    rest. A request names no files: a server must not read what its callers like to name."""

    def load_context(self, context: Any) -> None:
        self._grader: ExportedGrader = open_exported(Path(context.artifacts[GRADER]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        pictures = [
            NamedImage(name, EncodedPicture(name, bytes(content)))
            for name, content in ((f"picture {row}", content) for row, content in enumerate(model_input[IMAGE], 1))
        ]
        return pd.DataFrame(list(self._rows(pictures)), dtype=object)

    def _rows(self, pictures: list[NamedImage]) -> Iterator[dict[str, Any]]:
        threshold = self._grader.info.threshold
        for found in predict_each(self._grader, pictures):
            numbers = found.probabilities or (None,) * len(PROBABILITY_COLUMNS)
            row = dict(zip(PROBABILITY_COLUMNS, numbers, strict=True))
            row |= {"score": found.score, "grade": found.grade, "referable": found.referable}
            if threshold is not None:
                row[REFER] = found.refer
            yield row | {"error": found.error}


set_model(ServedGrader())
