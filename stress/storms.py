"""Processes that open the database, commit a little and end in all ways there are; many that create one at once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pykesto

from .records import tell
from .worker import EXPECTED, PROBLEM, Task, Worker, begin_process, parent_lives, run_guarded

AT_ONCE = 4


def run_storm(task: Task) -> None:
    """Fork children that open, commit and end, some at a time; now and then all of them create a new database."""
    begin_process(task)

    def storm() -> None:
        chance, count = random.Random(task.seed), 0
        while parent_lives():
            if chance.random() < 0.1:
                create_at_once(task, count)
            else:
                # A thousand times more than any worker has: a number of its own.
                numbers = [(task.number * 10_000 + count + n) * 1_000_000_000 for n in range(AT_ONCE)]
                ways = [chance.choice(WAYS) for _ in numbers]
                seeds = [chance.getrandbits(64) for _ in numbers]
                children = [
                    fork(task, f"storm-{number}", partial(visit, task, number, seed, way))
                    for number, seed, way in zip(numbers, seeds, ways, strict=True)
                ]
                reap(task, children)
            count += AT_ONCE

    run_guarded(task, f"storm-{task.number}", storm)


def fork(task: Task, who: str, act: Callable[[], object]) -> int:
    if (child := os.fork()) == 0:
        run_guarded(task, who, act)
        os._exit(0)
    return child


def reap(task: Task, children: list[int]) -> None:
    for child in children:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in (*EXPECTED, PROBLEM):
            tell(task.records, f"storm-{task.number}", f"a child that opened and closed ended with {code}")


def _close(db: pykesto.Database) -> None:
    db.close()


def _leave_open(db: pykesto.Database) -> None:
    os._exit(0)


def _die(db: pykesto.Database) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _open_again(db: pykesto.Database) -> None:
    for _ in range(3):
        db.close()
        db = pykesto.open(db.path)
        assert db.version


WAYS = [_close, _leave_open, _die, _open_again]


def visit(task: Task, number: int, seed: int, end: Callable[[pykesto.Database], None]) -> None:
    worker = Worker(replace(task, number=number, seed=seed, fork_chance=0.0))
    for _ in range(2):
        worker.step()
    end(worker.db)


def create_at_once(task: Task, count: int) -> None:
    """Several processes create one database; each commits a row, and all rows are there."""
    path = task.records / f"created-{task.number}-{count}.kesto"

    def create(number: int) -> None:
        with pykesto.open(path) as db, db.transaction(durability="process") as s:
            s.table("rows")[number] = {"n": number}

    children = [fork(task, f"creator-{count}-{n}", partial(create, n)) for n in range(AT_ONCE)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    expected = {n for n, code in enumerate(codes) if code == 0}
    if -signal.SIGKILL not in codes and not task.faulty and len(expected) != AT_ONCE:
        tell(task.records, f"storm-{task.number}", f"processes that created a database at once ended with {codes}")
    with contextlib.suppress(*((pykesto.StorageError,) if task.faulty else ())):
        with pykesto.open(path) as db, db.session() as s:
            found = set(s.table("rows"))
        if not expected <= found:
            tell(task.records, f"storm-{task.number}", f"{expected} were committed to a new database, it has {found}")
    shutil.rmtree(path, ignore_errors=True)
