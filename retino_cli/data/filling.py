"""Fill the prepared cache: find what is missing or has changed, decode it, write it.

Pictures are decoded by threads: Pillow lets go of the interpreter lock while it decodes, resizes and reads, so threads
are as quick as processes (measured on 4288x2848 JPEGs: twice as fast with two), start at once, share the cache's files,
end with the process, and need nothing of the caller's main module.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from retino_cli.data.pictures import split_source
from retino_cli.data.pixels import count_cores
from retino_cli.data.slot_writer import SlotWriter
from retino_cli.data.slots import READY, SlotFiles
from retino_cli.data.space import explain_format, reserve_space
from retino_cli.errors import DataError
from retino_cli.preprocess import PreprocessSpec, prepare_picture

logger = logging.getLogger("retino")

_SAY_WAITING_AFTER: Final = 3.0  # seconds
_REPORT_EVERY: Final = 0.1  # seconds
_SYNC_EVERY: Final = 1.0  # seconds


@dataclass(frozen=True, slots=True)  # there may be millions
class _Job:
    slot: int
    source: str
    size: int
    mtime_ns: int
    takes_space: bool  # the slot was never filled


@dataclass(frozen=True)
class Filled:
    """``slots``: the slot of every source in the cache. ``failures``: why some of the wanted sources have no picture,
    by source. ``decoded``: how many pictures were decoded just now. ``why``: the format, and why it is that one."""

    slots: dict[str, int]
    failures: dict[str, str]
    decoded: int
    why: str


def fill_slots(
    files: SlotFiles,
    wanted: Sequence[str],
    spec: PreprocessSpec,
    *,
    root: Path,
    workers: int | None,
    expected: int,
    compact: bool,
    on_progress: Callable[[int, int], None] | None,
) -> Filled:
    """Decode every wanted source (distinct) that is not ready or has changed. See ``prepared.prepare`` for the rest.

    Raises ``DataError`` where the space will not do, ``OSError`` for errors of the cache's own files.
    """
    found, failures = _stat_sources(wanted)
    slots, jobs = _find_jobs(files, found)
    if not jobs and not files.crashed:  # without the lock, so that a cache that can only be read will do
        return Filled(slots, failures, 0, explain_format(files, compact=compact))
    files.folder.mkdir(parents=True, exist_ok=True)
    del slots, jobs  # of millions of images these are large
    with _locked(files.folder):
        # Somebody else may have done it, or a part of it, in the meantime.
        if files.crashed:
            files.drop_damaged(len(files.read_sources()))
        slots, jobs = _find_jobs(files, found)
        fresh = sum(job.takes_space for job in jobs)
        why = reserve_space(files, jobs=len(jobs), fresh=fresh, expected=expected, compact=compact)
        sources = list(slots) + [job.source for job in jobs if job.slot >= len(slots)]
        files.write_sources(sources, known=len(slots))
        del found, slots
        files.describe(spec, root)
        with SlotWriter(files) as writer:
            damaged = _decode(jobs, writer, spec, workers or count_cores(), on_progress) if jobs else {}
    slots = {source: slot for slot, source in enumerate(sources)}
    return Filled(slots, failures | damaged, len(jobs) - len(damaged), why)


def _stat_sources(wanted: Iterable[str]) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Size and time of each source's file, and why some have none."""
    found: dict[str, tuple[int, int]] = {}
    failures: dict[str, str] = {}
    last: str | None = None
    known = (0, 0)  # thousands of rows of one .npz stand together, and need one look
    for source in wanted:
        path = split_source(source)[0]
        try:
            if path != last:
                status = os.stat(path)
                last, known = path, (status.st_size, status.st_mtime_ns)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            failures[source] = f"{source}: {reason}"
        else:
            found[source] = known
    return found, failures


def _find_jobs(files: SlotFiles, found: dict[str, tuple[int, int]]) -> tuple[dict[str, int], list[_Job]]:
    """The slots given out so far, and what is left to do: new sources behind them, empty slots, changed sources."""
    slots = {source: slot for slot, source in enumerate(files.read_sources())}
    records = files.read_records(len(slots))
    ready = (records["status"] == READY).tolist()
    sizes, times = records["size"].tolist(), records["mtime_ns"].tolist()
    jobs = []
    fresh = len(slots)
    for source, (size, mtime_ns) in found.items():
        slot = slots.get(source, -1)
        filled = slot >= 0 and ready[slot]
        if slot < 0:
            slot, fresh = fresh, fresh + 1
        elif filled and sizes[slot] == size and times[slot] == mtime_ns:
            continue
        jobs.append(_Job(slot, source, size, mtime_ns, takes_space=not filled))
    return slots, sorted(jobs, key=lambda job: job.slot)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=_SAY_WAITING_AFTER)
    except Timeout:
        logger.warning("another process is preparing these pictures in %s: waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _decode(
    jobs: list[_Job],
    writer: SlotWriter,
    spec: PreprocessSpec,
    workers: int,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, str]:
    """Decode all jobs, and return why some of the sources failed."""
    workers = min(workers, len(jobs))
    failures: dict[str, str] = {}
    done: list[int] = [0] * workers
    queue = iter(jobs)
    guard, stop = threading.Lock(), threading.Event()

    def work(worker: int) -> None:
        while not stop.is_set():
            with guard:
                job = next(queue, None)
            if job is None:
                return
            try:
                picture = prepare_picture(job.source, spec)
            except DataError as error:
                failures[job.source] = error.message
            else:
                writer.write(job.slot, picture, size=job.size, mtime_ns=job.mtime_ns)
            done[worker] += 1

    with ThreadPoolExecutor(workers, thread_name_prefix="prepare") as pool:
        pending = {pool.submit(work, worker) for worker in range(workers)}
        synced = time.monotonic()
        try:
            while pending:
                ended, pending = wait(pending, timeout=_REPORT_EVERY, return_when=FIRST_EXCEPTION)
                for future in ended:
                    future.result()  # raises what ended the worker: a full disk, say
                if on_progress is not None:
                    on_progress(sum(done), len(jobs))
                if time.monotonic() - synced > _SYNC_EVERY:
                    # Little by little, while the others decode, rather than all at the end.
                    writer.sync()
                    synced = time.monotonic()
        finally:
            # Ctrl-C, too: each worker ends after the picture that it is at.
            stop.set()
    return failures
