from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from retino_cli.errors import TrackingError
from retino_cli.tracking import Store, open_store


def start(store: Store, experiment: str) -> str:
    with store.start_run(experiment=experiment, name="r", kind="train", params={}, tags={}) as run:
        run.log_text("x", "x.txt")
    return run.run_id


def test_an_experiment_keeps_its_artifacts_below_mlruns(project: Path, store: Store) -> None:
    run_id = start(store, "retino")
    assert (project / "mlruns" / "retino" / run_id / "artifacts" / "x.txt").read_text() == "x"
    start(store, "retino")
    client = store._connection.client
    assert client.get_experiment_by_name("retino").artifact_location == (project / "mlruns" / "retino").as_uri()


def test_experiments_with_similar_names_do_not_share_a_folder(store: Store) -> None:
    one, two = (store.download(start(store, name), "x.txt").parents[2] for name in ("a/b", "a b"))
    assert one != two


def test_what_a_ui_that_was_started_first_leaves_behind(store: Store) -> None:
    store._connection.client.create_experiment("left", artifact_location="mlflow-artifacts:/7")
    with pytest.raises(TrackingError, match="'left' keeps its artifacts at mlflow-artifacts:/7") as caught:
        start(store, "left")
    assert "--experiment NAME" in caught.value.hint
    assert store.latest(10) == []


def test_a_project_that_was_moved(project: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = start(store, "retino")
    moved = project.parent / "moved"
    project.rename(moved)
    monkeypatch.chdir(moved)
    after = open_store()
    with pytest.raises(TrackingError, match="'retino' keeps its artifacts in .*project/mlruns/retino, which does not"):
        start(after, "retino")
    with pytest.raises(TrackingError, match="has been moved or copied"):
        after.download(run_id, "x.txt")
    start(after, "another")  # the way out that the hint names


def test_artifacts_that_were_deleted_do_not_stand_in_the_way(project: Path, store: Store) -> None:
    start(store, "retino")
    shutil.rmtree(project / "mlruns")
    start(store, "retino")


def test_a_deleted_experiment(store: Store) -> None:
    start(store, "retino")
    client = store._connection.client
    experiment_id = client.get_experiment_by_name("retino").experiment_id
    client.delete_experiment(experiment_id)
    with pytest.raises(TrackingError, match="'retino' has been deleted") as caught:
        start(store, "retino")
    assert f"mlflow experiments restore -x {experiment_id}" in caught.value.hint


def test_a_folder_in_which_nothing_can_be_made(project: Path, store: Store) -> None:
    (project / "mlruns" / "retino").write_text("a file is in the way")
    with pytest.raises(TrackingError, match=r"\./mlruns/retino cannot be created"):
        start(store, "retino")
