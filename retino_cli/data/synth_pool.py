"""Drawing many pictures in several processes, each of which writes its own share."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, TypeVar

from retino_cli.errors import DataError

_WORTH_A_PROCESS: Final = 1.0  # seconds of drawing for each; a process takes about 0.4 s to start

Picture = TypeVar("Picture")


def choose_workers(workers: int | None, pictures: int, *, seconds: float) -> int:
    """As many processes as were asked for, else one a core where that pays; ``seconds``: what one picture takes."""
    if workers is not None:
        return min(workers, pictures)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(pictures * seconds / _WORTH_A_PROCESS)))


def write_all(
    write: Callable[[Picture], None], pictures: Sequence[Picture], workers: int
) -> Generator[None, None, None]:
    """Write every picture, in this process or in ``workers`` others; yields after each.

    A pool of the standard library may hang when it is interrupted twice. Pictures take about the same time each: equal
    shares, one for each process, do as well, and can be ended at once.
    """
    if workers == 1:
        yield from map(write, pictures)
        return
    # Spawned, because a fork of a process in which torch has started threads may hang.
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    left: dict[Connection, int] = {}  # pictures that are still to come from each process
    try:
        for start in range(workers):
            share = pictures[start::workers]
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_write_share, args=(write, share, sender), daemon=True)
            process.start()
            sender.close()
            processes.append(process)
            left[receiver] = len(share)
        while left:
            for receiver in [pipe for pipe in wait(list(left)) if isinstance(pipe, Connection)]:
                try:
                    error: Exception | None = receiver.recv()
                except EOFError:
                    raise DataError(
                        "a drawing process ended before its work was done",
                        hint="draw in one process (workers=1), or keep the calls of a script below "
                        'if __name__ == "__main__":',
                    ) from None
                if error is not None:
                    raise error
                left[receiver] -= 1
                if left[receiver] == 0:
                    del left[receiver]
                yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _write_share(write: Callable[[Any], None], share: Sequence[Any], sender: Connection) -> None:
    """Run in a process of its own: write ``share``, and report each picture, or the error that ended the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    try:
        for picture in share:
            write(picture)
            sender.send(None)
    except BrokenPipeError:  # the parent is gone
        return
    except Exception as error:
        sender.send(error)
