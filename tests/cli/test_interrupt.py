"""Ctrl-C, SIGTERM and kill -9 during a training: exit codes, whole checkpoints, runs that go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from commands import Retino, SignalInEpoch, Spawn

from retino_cli.models.checkpoint import load_checkpoint, load_training_state
from retino_cli.tracking import RunRecord, open_store

LONG = 1000
"""Epochs: more than any test waits for."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def the_run() -> RunRecord:
    (record,) = open_store().latest(10)
    return record


def wait_for_epoch(process: subprocess.Popen[str], epoch: int) -> str:
    """What the process has written to stderr until the line of ``epoch``."""
    assert process.stderr is not None
    lines = ""
    for line in process.stderr:
        lines += line
        if line.startswith(f"epoch {epoch}/"):
            return lines
    pytest.fail(f"the training ended before epoch {epoch}: {lines}")


def assert_whole(run_id: str) -> int:
    """Both checkpoints load, and what resuming needs is there; the last complete epoch."""
    store = open_store()
    best, last = (load_checkpoint(store.download(run_id, f"checkpoint/{which}"))[1] for which in ("best", "last"))
    assert load_training_state(store.download(run_id, "checkpoint/last")).values["epoch"] == last.epoch
    assert best.epoch <= last.epoch
    return last.epoch


def test_a_stopped_training_keeps_its_checkpoints_and_goes_on(
    spawn: Spawn, retino: Retino, quick_flags: tuple[object, ...]
) -> None:
    process = spawn("train", *quick_flags, "--epochs", LONG)
    wait_for_epoch(process, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    done = assert_stopped(err, "Ctrl-C")

    run_id = the_run().run_id
    ended = retino("train", "--resume", run_id[:8], "--epochs", done + 1, "--json")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert result["run_id"] == run_id
    assert [row["epoch"] for row in result["history"]] == list(range(1, done + 2))
    assert the_run().status == "FINISHED"


def test_sigterm_ends_a_training_as_ctrl_c_does(
    retino: Retino, signal_in_epoch: SignalInEpoch, workplace: Path, quick_flags: tuple[object, ...]
) -> None:
    signal_in_epoch(signal.SIGTERM, 2)
    ended = retino("train", *quick_flags, "--epochs", LONG)
    assert (ended.code, ended.out) == (143, "")
    assert assert_stopped(ended.err, "SIGTERM") == 1


def assert_stopped(err: str, reason: str) -> int:
    """The run says why it ended, the command how to go on, and both checkpoints are whole; the last complete epoch."""
    assert "Traceback" not in err
    record = the_run()
    assert record.status == "KILLED"
    assert reason in record.tags["retino.error"]
    assert f"retino train --resume {record.run_id[:8]}" in err
    return assert_whole(record.run_id)


def test_a_run_that_was_killed_hard_is_shown_as_killed_and_goes_on(
    spawn: Spawn, retino: Retino, quick_flags: tuple[object, ...]
) -> None:
    process = spawn("train", *quick_flags, "--epochs", LONG)
    wait_for_epoch(process, 1)
    # While it runs it is not ours to go on with.
    record = the_run()
    assert record.status == "RUNNING"
    refused = retino("train", "--resume", record.run_id[:8])
    assert refused.code == 1
    assert f"still being written by process {process.pid}" in refused.err
    assert the_run().status == "RUNNING"

    process.kill()
    process.wait(timeout=60)
    (listed,) = json.loads(retino("runs", "--json").out)["runs"]
    assert (listed["run_id"], listed["status"]) == (record.run_id, "KILLED")
    done = assert_whole(record.run_id)
    assert retino("train", "--resume", record.run_id, "--epochs", done + 1).code == 0
    assert the_run().status == "FINISHED"


def test_ctrl_c_before_the_first_epoch(spawn: Spawn, workplace: Path, quick_flags: tuple[object, ...]) -> None:
    process = spawn("train", *quick_flags, "--epochs", LONG)
    time.sleep(0.7)  # anywhere: most likely while modules load
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert all(record.status != "RUNNING" for record in open_store().latest(10))
