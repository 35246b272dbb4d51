"""A store that goes away while a run is written: nothing is lost, and no epoch waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from retino_cli.errors import TrackingError
from retino_cli.tracking import ActiveRun, Store, open_store
from retino_cli.tracking.connection import Connection
from retino_cli.tracking.failures import Unavailable
from retino_cli.tracking.spool import Spool


class Switch:
    """Cuts a store off: every call fails while ``away``. Counts the attempts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.attempts = 0
        call = Connection.call

        def cut(connection: Connection, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if self.away:
                self.attempts += 1
                raise Unavailable("The tracking server does not answer: connection refused")
            return call(connection, function, *args, **kwargs)

        monkeypatch.setattr(Connection, "call", cut)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    return Switch(monkeypatch)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retino_cli.tracking.runs.FIRST_PAUSE", 0.0)


def start(store: Store) -> ActiveRun:
    run = store.start_run(experiment="retino", name="run", kind="train", params={}, tags={})
    run._folder = None  # as if artifacts went to a server
    return run


def fill(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "weights").write_text(text) and None


@pytest.mark.usefixtures("no_pause")
def test_what_is_logged_while_the_server_is_away_arrives_when_it_is_back(
    store: Store, switch: Switch, caplog: pytest.LogCaptureFixture
) -> None:
    with start(store) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        switch.away = True
        run.log_epoch(2, {"train/loss": 0.5, "val/qwk": 0.1})
        run.write_folder("checkpoint/last", fill("epoch 2"))
        run.log_epoch(3, {"train/loss": 0.4, "val/qwk": 0.2})
        run.write_folder("checkpoint/last", fill("epoch 3"))
        run.set_tags({"retino.collapsed": "0"})
        (warning,) = caplog.records  # once, not once an epoch
        assert "connection refused. Nothing is lost" in warning.message
        switch.away = False
        run.log_epoch(4, {"train/loss": 0.3, "val/qwk": 0.3})
        assert len(store.history(run.run_id)) == 4
        assert store.find("run").tags["retino.collapsed"] == "0"
        assert (store.download(run.run_id, "checkpoint/last") / "weights").read_text() == "epoch 3"
        run.log_metrics({"test/qwk": 0.9})
        run.log_text("{}", "test/metrics.json")
    record = store.find("run")
    assert (record.status, record.metrics["test/qwk"]) == ("FINISHED", 0.9)
    assert [row["epoch"] for row in store.history(run.run_id)] == [1, 2, 3, 4]
    assert not run._spool.folder.exists()


def test_what_is_left_at_the_end_is_sent_by_the_next_command(
    store: Store, switch: Switch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    file = tmp_path / "history.csv"
    file.write_text("epoch\n1\n")
    with start(store) as run:
        switch.away = True
        run.log_epoch(1, {"train/loss": 1.0})
        run.log_file(file)
        run.log_text("{}", "test/metrics.json")
        run.write_folder("checkpoint/best", fill("best"))
        run.log_metrics({"test/qwk": 0.9})
        file.unlink()  # it was copied
    last = caplog.records[-1]
    assert "could not be sent" in last.message
    assert str(run._spool.folder) in last.message
    assert run._spool.folder.is_relative_to(tmp_path / "cache" / "runs")
    switch.away = False

    after = open_store()
    record = after.find("run")
    assert (record.status, record.metrics) == ("FINISHED", {"train/loss": 1.0, "test/qwk": 0.9})
    assert after.history(run.run_id) == [{"epoch": 1, "train/loss": 1.0}]
    assert after.download(run.run_id, "history.csv").read_text() == "epoch\n1\n"
    assert after.download(run.run_id, "test/metrics.json").read_text() == "{}"
    assert (after.download(run.run_id, "checkpoint/best") / "weights").read_text() == "best"
    assert list((tmp_path / "cache" / "runs").iterdir()) == []


def test_an_epoch_does_not_wait_for_a_server_that_is_away(store: Store, switch: Switch) -> None:
    run = start(store)
    switch.away = True
    for epoch in range(1, 50):
        run.log_epoch(epoch, {"train/loss": 1 / epoch})
    assert switch.attempts == 1  # the next one is due after the first pause
    switch.away = False
    run.finish()  # tries once more, whatever the pause
    assert len(store.history(run.run_id)) == 49


def test_a_failing_run_ends_as_failed_though_the_server_is_away(store: Store, switch: Switch) -> None:
    run = start(store)

    def train() -> None:
        with run:
            switch.away = True
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        train()
    switch.away = False
    record = open_store().find(run.run_id)
    assert (record.status, record.error) == ("FAILED", "RuntimeError: broken")


def test_a_run_that_somebody_deletes_meanwhile_costs_no_epoch(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    run = start(store)
    store._connection.client.delete_run(run.run_id)
    with run:
        run.log_epoch(1, {"train/loss": 1.0})
    assert "deleted" in caplog.records[0].message
    caplog.clear()
    open_store()
    assert f"delete {run._spool.folder}" in caplog.records[0].message


def test_a_run_that_goes_on_is_left_to_itself(store: Store, switch: Switch) -> None:
    run = start(store)
    switch.away = True
    run.log_epoch(1, {"train/loss": 1.0})
    switch.away = False
    other = open_store()
    assert other.history(run.run_id) == []  # the run itself sends it
    run.finish()
    assert len(other.history(run.run_id)) == 1


def test_a_resumed_run_knows_epochs_that_have_not_arrived(store: Store, switch: Switch) -> None:
    run = start(store)
    switch.away = True
    run.log_epoch(1, {"train/loss": 1.0})
    run.finish()
    switch.away = False
    with store.resume_run(run.run_id) as again:  # without open_store in between
        assert again.last_epoch == 1
        again.log_epoch(1, {"train/loss": 0.9})
        again.log_epoch(2, {"train/loss": 0.8})
    assert [row["train/loss"] for row in store.history(run.run_id)] == [1.0, 0.8]
    assert store.find("run").status == "FINISHED"


def test_a_disk_that_takes_nothing_either_is_an_error(store: Store, switch: Switch, tmp_path: Path) -> None:
    run = start(store)
    (tmp_path / "cache").write_text("a file is in the way")
    switch.away = True
    with pytest.raises(TrackingError, match="cannot be kept") as caught:
        run.log_epoch(1, {"train/loss": 1.0})
    assert "RETINO_CACHE" in caught.value.hint


def make_spool(run_id: str = "a" * 32) -> Spool:
    return Spool(run_id, name="run", uri="http://tracking.example")


@pytest.mark.usefixtures("empty_project")
def test_a_line_that_was_cut_off_by_a_kill_is_dropped_and_not_glued_to_the_next() -> None:
    spool = make_spool()
    spool.append({"type": "batch", "epoch": 1, "metrics": [], "tags": {}})
    spool._lock.release()
    with (spool.folder / "queue.jsonl").open("a") as file:
        file.write('{"type": "batch", "epo')
    again = make_spool()
    again.append({"type": "batch", "epoch": 2, "metrics": [], "tags": {}})
    again.close()
    assert [entry["epoch"] for entry in make_spool().pending] == [1, 2]
    assert make_spool().last_epoch == 2


@pytest.mark.usefixtures("empty_project")
def test_entries_that_have_arrived_are_not_sent_again() -> None:
    spool = make_spool()
    entries = [{"type": "batch", "epoch": i, "metrics": [], "tags": {}} for i in (1, 2)]
    for entry in entries:
        spool.append(entry)
    spool.mark_sent(entries[0])
    spool.close()
    assert make_spool().pending == entries[1:]
    assert [found.run_id for found in Spool.find_all("http://tracking.example")] == ["a" * 32]
    assert Spool.find_all("http://another.example") == []


@pytest.mark.usefixtures("empty_project")
def test_logging_is_quiet_where_all_goes_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="retino"), start(open_store()) as run:
        run.log_epoch(1, {"train/loss": 1.0})
        run.log_text("x", "a.txt")
    assert caplog.records == []
