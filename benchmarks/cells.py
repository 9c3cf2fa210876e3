"""What is measured: one cell of the table for one peer, in fresh processes on a fresh database."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pykesto.store import Durability

from .peers import ITEMS, PEERS, SCORES, Peer

START_TIMEOUT_S = 60.0
READS_IN_A_SNAPSHOT = 100
RANGE = 100  # of scores: about 20 items
COMPARED = 20  # rounds of reads whose answers all peers must give alike


class Failed(Exception):
    """A peer failed, or gave a wrong answer."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A line of the table. `work` names a function of this module."""

    title: str
    work: str
    durability: Durability = "process"
    processes: int = 1


CELLS = [
    *(Cell("commits, full durability", "commit", "full", processes) for processes in (1, 2, 4)),
    *(Cell("commits, process durability", "commit", "process", processes) for processes in (1, 2, 4)),
    Cell("point reads, each a snapshot", "read_points"),
    Cell(f"point reads, {READS_IN_A_SNAPSHOT} in a snapshot", "read_points_together"),
    Cell("indexed ranges, each a snapshot", "read_ranges"),
]


@dataclass(frozen=True, slots=True)
class Measured:
    """How often a second, the longest that any process waited for one round, and the answer, the same for all peers."""

    rate: float
    longest_ms: float
    answer: Any


# Each gives after each round how many operations it did, and what it found.


def commit(peer: Peer, process: int, chance: random.Random) -> Iterator[tuple[int, Any]]:
    step = 0
    while True:
        step += 1
        peer.change(chance.randrange(ITEMS), process, step)
        yield 1, None


def read_points(peer: Peer, process: int, chance: random.Random) -> Iterator[tuple[int, Any]]:
    while True:
        with peer.snapshot() as reader:
            found = reader.point(chance.randrange(ITEMS))
        yield 1, found


def read_points_together(peer: Peer, process: int, chance: random.Random) -> Iterator[tuple[int, Any]]:
    while True:
        with peer.snapshot() as reader:
            found = sum(reader.point(chance.randrange(ITEMS)) for _ in range(READS_IN_A_SNAPSHOT))
        yield READS_IN_A_SNAPSHOT, found


def read_ranges(peer: Peer, process: int, chance: random.Random) -> Iterator[tuple[int, Any]]:
    while True:
        low = chance.randrange(SCORES - RANGE)
        with peer.snapshot() as reader:
            found = reader.range(low, low + RANGE - 1)
        yield 1, found


def run_process(name: str, path: Path, cell: Cell, process: int, seconds: float, ready: Any, tell: Connection) -> None:
    """Work for some seconds from when all are ready; tell how much, from when to when, and what was found at first."""
    peer = PEERS[name](path, cell.durability)
    with peer.snapshot() as reader:
        reader.point(0)
    rounds = globals()[cell.work](peer, process, random.Random(process))
    done = 0
    found: list[Any] = []
    ready.wait(START_TIMEOUT_S)
    began = now = time.monotonic()
    longest_s = 0.0
    while len(found) < COMPARED or now < began + seconds:
        count, answer = next(rounds)
        done += count
        before, now = now, time.monotonic()
        longest_s = max(longest_s, now - before)
        if len(found) < COMPARED:
            found.append(answer)
    peer.close()
    tell.send((done, began, now, longest_s, found))


def measure(name: str, cell: Cell, seconds: float, directory: Path) -> Measured:
    """One peer's rate in one cell, in an empty directory."""
    PEERS[name].create(directory)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(cell.processes)
    processes, answers = [], []
    for number in range(cell.processes):
        hear, tell = spawn.Pipe(duplex=False)
        args = (name, directory, cell, number, seconds, ready, tell)
        processes.append(spawn.Process(target=run_process, args=args))
        processes[-1].start()
        tell.close()
        answers.append(hear)
    try:
        told = [hear.recv() for hear in answers]
    except EOFError:
        raise Failed(f"a process of {name} failed in: {cell.title}") from None
    finally:
        for process in processes:
            process.kill()  # those that told have done their work; of a failure the rest is not worth waiting for
            process.join()
    done = sum(one[0] for one in told)
    took_s = max(one[2] for one in told) - min(one[1] for one in told)
    if cell.work == "commit":
        _require_commits(name, cell, directory, done)
    return Measured(done / took_s, max(one[3] for one in told) * 1000, [one[4] for one in told])


def _require_commits(name: str, cell: Cell, directory: Path, done: int) -> None:
    """Whatever is counted is there, and none of it twice."""
    peer = PEERS[name](directory, cell.durability)
    if (found := peer.totals()) != (done, done):
        raise Failed(f"{name}, {cell.title}, {cell.processes} processes: {done} commits, and {found} are there")
    peer.close()
