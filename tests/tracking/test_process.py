from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from retino_cli.tracking.process import ProcessMark, current_process, is_gone


def test_this_process_is_there() -> None:
    mark = current_process()
    assert mark.pid == os.getpid()
    assert is_gone(mark) is False
    assert ProcessMark.from_tags(mark.to_tags()) == mark


def test_a_process_that_has_ended_is_gone_also_before_its_parent_has_collected_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    try:
        start = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
        here = current_process()
        mark = replace(here, pid=child.pid, started="/".join([*here.started.split("/")[:2], start]))
        assert is_gone(mark) is False
    finally:
        child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not collected
    assert is_gone(mark) is True
    child.communicate()
    assert is_gone(mark) is True


def test_a_number_that_was_given_to_another_process_does_not_hide_the_end() -> None:
    here = current_process()
    boot, namespace, ticks = here.started.split("/")
    assert is_gone(replace(here, started=f"{boot}/{namespace}/{int(ticks) - 1}")) is True


def test_a_host_that_was_started_anew_has_lost_its_processes() -> None:
    here = current_process()
    assert is_gone(replace(here, started="another-boot/" + here.started.partition("/")[2])) is True


def test_what_cannot_be_seen_from_here_is_left_open() -> None:
    here = current_process()
    boot, _, ticks = here.started.split("/")
    assert is_gone(replace(here, host="another-host")) is None
    assert is_gone(replace(here, started=f"{boot}/1/{ticks}")) is None  # a container's own process numbers
    assert is_gone(replace(here, started="")) is None
    assert ProcessMark.from_tags({}) is None
