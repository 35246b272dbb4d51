"""Writing runs into a local store, and how they end."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
import pytest

from retino_cli.errors import Terminated, TrackingError
from retino_cli.tracking import ActiveRun, RunRecord, Store, open_store
from retino_cli.tracking.process import HOST_TAG, PID_TAG, ProcessMark
from retino_cli.tracking.records import HEARTBEAT_TAG


def start(store: Store, name: str = "run", **params: object) -> ActiveRun:
    return store.start_run(experiment="retino", name=name, kind="train", params=params, tags={"retino.data": "abc"})


def read(store: Store, run: ActiveRun) -> RunRecord:
    return next(record for record in store.latest(100) if record.run_id == run.run_id)


def test_a_run_as_it_is_read_back(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    with start(store, "resnet18", arch="resnet18", lr=0.1, weights=None) as run:
        run.log_epoch(1, {"train/loss": 1.5, "val/qwk": 0.25})
        run.log_epoch(2, {"train/loss": 1.25, "val/qwk": 0.5})
        run.log_metrics({"test/qwk": 0.75})
        run.set_tags({"retino.collapsed": "2"})
        assert mlflow.active_run() is None
    record = read(store, run)
    assert (record.name, record.kind, record.status, record.experiment) == ("resnet18", "train", "FINISHED", "retino")
    assert record.params == {"arch": "resnet18", "lr": "0.1", "weights": "None"}
    assert record.metrics == {"train/loss": 1.25, "val/qwk": 0.5, "test/qwk": 0.75}
    assert record.tags["retino.data"] == "abc"
    assert record.tags["retino.collapsed"] == "2"
    assert before < record.started < datetime.now(UTC)
    assert record.duration is not None
    assert 0 <= record.duration < 60
    assert (record.error, record.parent, record.silent_for) == ("", None, None)


def test_history_has_the_epochs_and_not_the_final_values(store: Store) -> None:
    with start(store) as run:
        for epoch in (1, 2, 3):
            run.log_epoch(epoch, {"train/loss": 1 / epoch, "test/accuracy": epoch / 10})
        # The lab's recipe logs the test accuracy of each epoch, and at the end that of the best checkpoint.
        run.log_metrics({"test/accuracy": 0.9, "test/qwk": 0.8})
    assert store.history(run.run_id) == [
        {"epoch": 1, "test/accuracy": 0.1, "train/loss": 1.0},
        {"epoch": 2, "test/accuracy": 0.2, "train/loss": 1 / 2},
        {"epoch": 3, "test/accuracy": 0.3, "train/loss": 1 / 3},
    ]
    assert read(store, run).metrics == {"train/loss": 1 / 3, "test/accuracy": 0.9, "test/qwk": 0.8}
    # In the UI: a curve for what was logged by epoch, one value for what was not.
    points = store._connection.client.get_metric_history(run.run_id, "test/qwk")
    assert [(point.value, point.step) for point in points] == [(0.8, 3)]


def test_undefined_values_leave_a_gap(store: Store) -> None:
    with start(store) as run:
        run.log_epoch(1, {"train/loss": 1.0, "val/macro_auc": math.nan})
        run.log_epoch(2, {"train/loss": math.inf, "val/macro_auc": None})
        run.log_epoch(3, {"train/loss": 0.5, "val/macro_auc": 0.75})
        run.log_metrics({"test/macro_auc": None})
    assert store.history(run.run_id) == [
        {"epoch": 1, "train/loss": 1.0},
        {"epoch": 3, "train/loss": 0.5, "val/macro_auc": 0.75},
    ]


def test_one_request_an_epoch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    client = store._connection.client
    calls: list[str] = []
    tracking = client._tracking_client.store
    monkeypatch.setattr(
        client,
        "log_batch",
        lambda *args, **kwargs: calls.append("batch") or type(client).log_batch(client, *args, **kwargs),
    )
    monkeypatch.setattr(tracking, "log_metric", lambda *args: calls.append("metric"))
    monkeypatch.setattr(tracking, "set_tag", lambda *args: calls.append("tag"))
    run = start(store)
    for epoch in range(1, 4):
        run.log_epoch(epoch, {f"train/m{i}": float(i) for i in range(20)})
    assert calls == ["batch"] * 3
    run.finish()


def test_more_and_longer_params_than_one_request_takes(store: Store) -> None:
    params = {f"p{i}": i for i in range(250)} | {"long": "x" * 7000}
    with start(store, **params) as run:
        pass
    kept = read(store, run).params
    assert len(kept) == 251
    assert len(kept["long"]) == 6000
    assert kept["long"].endswith("x…")


def test_names_that_mlflow_refuses_leave_no_run_behind(store: Store) -> None:
    with pytest.raises(ValueError, match="MLflow takes"):
        start(store, **{"a=b": 1})
    assert store.latest(1) == []
    with start(store) as run, pytest.raises(ValueError, match="MLflow takes"):
        run.log_epoch(1, {"recall@0.95": 0.5})
    with pytest.raises(ValueError, match="counted from 1"):
        run.log_epoch(0, {})


@pytest.mark.parametrize(
    ("exception", "status", "error"),
    [
        (RuntimeError("out of memory"), "FAILED", "RuntimeError: out of memory"),
        (SystemExit(3), "FAILED", "SystemExit: 3"),
        (KeyboardInterrupt(), "KILLED", "stopped by Ctrl-C"),
        (Terminated(), "KILLED", "stopped by SIGTERM"),
    ],
)
def test_how_a_run_ends(store: Store, exception: BaseException, status: str, error: str) -> None:
    with pytest.raises(type(exception)), start(store) as run:
        raise exception
    record = read(store, run)
    assert (record.status, record.error) == (status, error)


LEFT_BEHIND = """
import sys
from retino_cli.tracking import open_store
run = open_store().start_run(experiment="retino", name="left", kind="train", params={}, tags={})
run.log_epoch(1, {"train/loss": 1.0})
run.log_epoch(2, {"train/loss": 0.5})
print(run.run_id, flush=True)
sys.stdin.read()
"""


def test_a_run_that_was_killed_hard_is_recognised_and_goes_on(store: Store) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", LEFT_BEHIND], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    run_id = child.stdout.readline().strip()
    assert store.find("left").status == "RUNNING"  # it is: its process is there
    with pytest.raises(TrackingError, match=f"still being written by process {child.pid}"):
        store.resume_run(run_id)
    child.send_signal(signal.SIGKILL)
    child.communicate()

    record = open_store().find("left")
    assert (record.status, record.error) == ("KILLED", "the process was killed")
    assert record.duration is not None
    assert record.duration < 60  # until its last sign of life

    # Epoch 2 was logged, but its checkpoint was not written: the resumed run does it again.
    with store.resume_run(run_id) as run:
        assert run.last_epoch == 2
        assert store.find("left").status == "RUNNING"
        run.log_epoch(2, {"train/loss": 0.4})
        run.log_epoch(3, {"train/loss": 0.3, "val/qwk": 0.5})
    assert store.history(run_id) == [
        {"epoch": 1, "train/loss": 1.0},
        {"epoch": 2, "train/loss": 0.5},
        {"epoch": 3, "train/loss": 0.3, "val/qwk": 0.5},
    ]
    record = store.find("left")
    assert (record.status, record.error) == ("FINISHED", "")


@pytest.mark.parametrize("ending", ["finished", "resumed elsewhere"])
def test_a_run_that_ends_while_it_is_looked_at_is_not_called_killed(
    store: Store, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """It was listed as running, and when its process is looked for, that has ended in good order, or another has it."""
    run = start(store, "quick")

    def look(_mark: ProcessMark) -> bool:
        if ending == "finished":
            run.finish()
        else:
            run.set_tags({PID_TAG: "1"})
        return True

    monkeypatch.setattr("retino_cli.tracking.store.is_gone", look)
    record = store.find("quick")
    assert (record.status, record.error) == ("FINISHED" if ending == "finished" else "RUNNING", "")
    run.finish()


def test_a_running_run_of_another_host_is_not_marked_but_its_silence_is_told(store: Store) -> None:
    run = start(store, "far")
    seen = (datetime.now(UTC) - timedelta(hours=30)).isoformat(timespec="seconds")
    run.set_tags({HOST_TAG: "another-host", PID_TAG: "1", HEARTBEAT_TAG: seen})
    record = open_store().find("far")
    assert record.status == "RUNNING"
    assert record.silent_for is not None
    assert timedelta(hours=29) < record.silent_for < timedelta(hours=31)
    run.finish()
    assert read(store, run).silent_for is None


def test_epochs_are_logged_once(store: Store) -> None:
    with start(store) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        run.log_epoch(1, {"train/loss": 0.9})
    assert store.history(run.run_id) == [{"epoch": 1, "train/loss": 1.0}]
    with store.resume_run(run.run_id) as again:
        again.log_epoch(1, {"train/loss": 0.8})
        again.log_epoch(2, {"train/loss": 0.7})
        again.log_metrics({"test/qwk": 0.1})
    assert [row["train/loss"] for row in store.history(run.run_id)] == [1.0, 0.7]


def test_files_texts_and_folders(store: Store, tmp_path: Path, project: Path) -> None:
    picture = tmp_path / "confusion.png"
    picture.write_bytes(b"\x89PNG")
    places = []

    def write_checkpoint(folder: Path) -> None:
        places.append(folder)
        (folder / "model.safetensors").write_text(f"weights {len(places)}")

    with start(store) as run:
        run.log_file(picture, "test")
        run.log_file(picture)
        run.log_text('{"qwk": "ü"}', "test/metrics.json")
        run.write_folder("checkpoint/last", write_checkpoint)
        run.write_folder("checkpoint/last", write_checkpoint)
        with pytest.raises(ValueError, match="relative path"):
            run.log_text("x", "../outside.txt")
    assert store.artifacts(run.run_id) == ["checkpoint", "confusion.png", "test"]
    assert store.artifacts(run.run_id, "test") == ["test/confusion.png", "test/metrics.json"]
    assert store.artifacts(run.run_id, "none") == []
    assert store.download(run.run_id, "test/metrics.json").read_text(encoding="utf-8") == '{"qwk": "ü"}'
    folder = store.download(run.run_id, "checkpoint/last")
    assert folder.is_relative_to(project / "mlruns")  # where it lies, not a copy
    assert places == [folder, folder]  # written there, not copied there
    assert (folder / "model.safetensors").read_text() == "weights 2"
    assert [path.name for path in folder.parent.iterdir()] == ["last"]
    assert not (tmp_path / "cache").exists()  # nothing of a local store goes through the cache


def test_a_write_that_fails_leaves_the_old_file(store: Store, tmp_path: Path) -> None:
    with start(store) as run:
        run.log_text("old", "a.txt")
        with pytest.raises(TrackingError, match=r"a\.txt.* cannot be written: No such file"):
            run.log_file(tmp_path / "missing" / "a.txt")
    assert store.download(run.run_id, "a.txt").read_text() == "old"


def test_where_a_run_comes_from(store: Store, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/retino", "train", "--data", "my photos"])
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    with start(store) as run:
        pass
    tags = read(store, run).tags
    assert tags["mlflow.source.name"] == "retino train --data 'my photos'"
    assert tags["retino.version"]
    assert tags["mlflow.user"]
    assert "mlflow.source.git.commit" not in tags
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    with start(store) as run:
        pass
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert read(store, run).tags["mlflow.source.git.commit"] == head
    monkeypatch.setenv("PATH", str(project))  # no git at all
    with start(store) as run:
        pass
    assert "mlflow.source.git.commit" not in read(store, run).tags


def test_several_writers_at_once_lose_nothing(store: Store) -> None:
    failures: list[BaseException] = []

    def train(i: int) -> None:
        try:
            with start(open_store(), f"run-{i}") as run:
                for epoch in range(1, 6):
                    run.log_epoch(epoch, {"train/loss": 1 / epoch, "val/qwk": epoch / 10})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=train, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    runs = store.latest(10)
    assert [run.status for run in runs] == ["FINISHED"] * 6
    assert [len(store.history(run.run_id)) for run in runs] == [5] * 6
