"""Workers: processes that open a peer, wait for each other, and work from one moment to another.

Each is a fresh process (spawn). What it does is a generator function of `benchmarks.works` that yields after each
operation. Operations that end between the two moments are counted, and how long each took; what is done before and
after them (to be warm, and to let the last one end) is not counted, but told, so that it can be checked. A worker that
ended nothing in that time goes on until it has: its rate is one in the time that it took.
"""

from __future__ import annotations

import multiprocessing
import random
import time
import traceback
from array import array
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from pykesto.store import Durability

from .measuring import Failed, percentile
from .peers import PEERS, Peer

PATIENCE_S = 150.0  # for a worker to get ready, and to end after its time
WARM_SHARE, WARM_MAX_S = 0.25, 0.5  # of the measured time, before it

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(slots=True)
class Here:
    """What a work has to do with. It adds to `done`, whatever its checks need."""

    peer: Peer
    process: int
    rows: int  # in the database, at first
    chance: random.Random
    arguments: dict[str, Any]
    done: dict[str, Any]


Rounds = Generator[int, None, None]
Work = Callable[[Here], Rounds]  # yields how many operations were done


@dataclass(frozen=True, slots=True)
class Job:
    """What one worker does: `work` is a module-level function."""

    work: Work
    arguments: dict[str, Any]
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker has to say: operations, the time that they took, seconds of each, and what its work noted."""

    counted: bool
    operations: int
    took_s: float
    seconds: array[float]
    done: dict[str, Any]

    @property
    def rate(self) -> float:
        return self.operations / self.took_s


@dataclass(frozen=True, slots=True)
class Measured:
    """All workers of one run."""

    rate: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    unfairness: float  # the busiest worker's rate to that of the laziest
    told: tuple[Told, ...]

    @classmethod
    def of(cls, told: Sequence[Told]) -> Measured:
        counted = [one for one in told if one.counted]
        rates = [one.rate for one in counted]
        times = sorted(second for one in counted for second in one.seconds)
        p50_ms, p99_ms, max_ms = (1000 * percentile(times, share) for share in (0.5, 0.99, 1.0))
        return cls(sum(rates), p50_ms, p99_ms, max_ms, max(rates) / min(rates), tuple(told))

    def sum(self, name: str) -> int:
        """Over all workers, of something that they noted."""
        return sum(one.done.get(name, 0) for one in self.told)


class Worker:
    """The parent's end of one process."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_serve, args=(theirs, target, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def hear(self, patience_s: float = PATIENCE_S) -> Any:
        """The next thing that it says; Failed with its traceback if it failed."""
        if not wait([self.pipe], patience_s):
            raise Failed(f"a worker said nothing in {patience_s:g} s")
        try:
            succeeded, said = self.pipe.recv()
        except EOFError:
            self.process.join()
            raise Failed(f"a worker ended with {self.process.exitcode}") from None
        if not succeeded:
            raise Failed(f"a worker failed:\n{said}")
        return said

    def kill(self) -> None:
        """Those that have told are through; of a failure the rest is not worth waiting for."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Connection, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    try:
        target(pipe, *arguments)
    except BaseException:  # noqa: BLE001  told to the parent, which raises it
        pipe.send((False, traceback.format_exc()))


def say(pipe: Connection, what: Any = None) -> None:
    pipe.send((True, what))


def run_together(
    name: str, place: Path, durability: Durability, jobs: Sequence[Job], *, rows: int, seconds: float
) -> Measured:
    """Run a worker for each job, all from the same moment; what they did."""
    workers: list[Worker] = []
    try:
        for number, job in enumerate(jobs):
            workers.append(Worker(_work, name, place, durability, job, number, rows))
        for worker in workers:
            worker.hear()
        first = time.monotonic() + 0.05
        begin = first + min(WARM_MAX_S, WARM_SHARE * seconds)
        for worker in workers:
            worker.pipe.send((first, begin, begin + seconds))
        return Measured.of([worker.hear(seconds + PATIENCE_S) for worker in workers])
    finally:
        for worker in workers:
            worker.kill()


def _work(pipe: Connection, name: str, place: Path, durability: Durability, job: Job, number: int, rows: int) -> None:
    """What a worker process does."""
    peer = PEERS[name](place, durability)
    here = Here(peer, number, rows, random.Random(number), job.arguments, {})
    rounds = job.work(here)
    next(rounds)  # to its first yield: all that it prepares
    say(pipe)
    first, begin, end = pipe.recv()
    while (pause := first - time.monotonic()) > 0:
        time.sleep(pause)
    operations, took_s, seconds = _timed(rounds, begin, end)
    rounds.close()
    peer.close()
    say(pipe, Told(job.counted, operations, took_s, seconds, here.done))


def _timed(rounds: Rounds, begin: float, end: float) -> tuple[int, float, array[float]]:
    """Run until the end; count what ended between the two moments. The last round ends later: its wait counts too."""
    seconds = array("d")
    operations = 0
    now = time.monotonic()
    while now < end or not seconds:
        count = next(rounds)
        before, now = now, time.monotonic()
        if now >= begin:
            seconds.append((now - before) / count)
            if now < end:
                operations += count
    return (operations, end - begin, seconds) if operations else (count, now - begin, seconds)
