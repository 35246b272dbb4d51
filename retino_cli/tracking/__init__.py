"""MLflow: the only part of retino that imports it.

::

    location      which store: the default ./mlflow.db and ./mlruns, MLFLOW_TRACKING_URI, --tracking-uri
    connection    opening it under a lock; every call with short time limits, retries and clear errors
    failures      knocking at a server; MLflow's exceptions in words
    experiments   made with an artifact folder below ./mlruns, and checked before use
    store         Store: start and resume runs; history, artifacts
    search        finding runs by id, prefix, name, "latest"
    runs          ActiveRun: epochs, final values, tags, files, folders, how it ended
    datasets      the splits of a run as dataset inputs
    models        checkpoints as logged models
    delivery      bringing what was logged to the store
    spool         what could not be sent yet, kept on disk
    artifacts     files of a run, found or fetched
    origin        where a run comes from: command line, user, git commit
    names         names and values that MLflow takes
    repeats       trainings that differ in the seed alone, below one run
    packaging     an exported grader as a folder that MLflow serves
    served        what its server runs
    interface     MLflow's page: started, waited for, ended
    process       which process writes a run, and whether it is still there
    records       RunRecord, and the names of the tags
"""

from __future__ import annotations

import os

# MLflow reports its use to its makers unless told not to. Whether it may is for the user to say:
# MLFLOW_DISABLE_TELEMETRY=false.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from retino_cli.tracking.records import RunRecord
from retino_cli.tracking.runs import ActiveRun
from retino_cli.tracking.store import Store, open_store

__all__ = ["ActiveRun", "RunRecord", "Store", "open_store"]
