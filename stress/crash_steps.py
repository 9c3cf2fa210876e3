"""What is done to a database whose calls are recorded: steps that a seed repeats, and the states they lead through.

`python -m stress.crash_steps DATABASE NOTES WORKLOAD SEED FIRST` is the process whose calls are recorded.
It writes a line to the notes before and after each step, and ends with DIED where a step says that it dies.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pykesto

DIED = 7
MARKER = "marker"

Rows = dict[Any, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done: a commit of changes, or `act`: checkpoint, reopen, die."""

    changes: tuple[tuple[Any, ...], ...] = ()  # put TABLE KEY ROW, delete TABLE KEY, index TABLE COLUMN, unindex, drop
    durability: str = "full"
    act: str = "commit"


@dataclass(slots=True)
class State:
    """All that a database holds."""

    rows: dict[str, Rows] = field(default_factory=dict)
    indexes: dict[str, set[str]] = field(default_factory=dict)

    def after(self, step: Step) -> State:
        found = deepcopy(self)
        for kind, table, *rest in step.changes:
            if kind == "drop":
                found.rows.pop(table, None)
                found.indexes.pop(table, None)
            elif kind == "index":
                found.indexes.setdefault(table, set()).add(rest[0])
            elif kind == "unindex":
                found.indexes[table].discard(rest[0])
            elif kind == "put":
                found.rows.setdefault(table, {})[rest[0]] = rest[1]
            else:
                found.rows[table].pop(rest[0], None)
        found.rows = {table: rows for table, rows in found.rows.items() if rows}
        found.indexes = {table: columns for table, columns in found.indexes.items() if columns}
        return found


def states(steps: list[Step]) -> list[State]:
    """That of an empty database, then that after each commit."""
    found = [State()]
    for step in steps:
        if step.act == "commit":
            found.append(found[-1].after(step))
    return found


def content(db: pykesto.Database) -> State:
    """What a database holds, by scans; AssertionError if an index finds anything else."""
    found = State()
    with db.session(read_only=True) as s:
        for name in db.tables():
            table = s.table(name)
            rows = {row.k_key: row.to_dict() for row in table.range()}
            columns = {str(index.column) for index in table.indexes()}
            for column in columns:
                for value in {row[column] for row in rows.values() if column in row}:
                    keys = [key for key, row in rows.items() if row.get(column) == value]
                    assert list(table.query.col(column).equals(value).order_by("k_key").keys()) == keys, (name, column)
            if rows:
                found.rows[name] = rows
            if columns:
                found.indexes[name] = columns
    return found


def apply(db: pykesto.Database, step: Step) -> int:
    """Commit a step; the number of the commit."""
    if step.changes and step.changes[0][0] == "drop":
        db.drop_table(step.changes[0][1])
        return db.version
    with db.session(durability=step.durability) as s:
        for kind, table, *rest in step.changes:
            if kind == "put":
                s.table(table)[rest[0]] = rest[1]
            elif kind == "delete":
                del s.table(table)[rest[0]]
            elif kind == "index":
                s.table(table).create_index(rest[0])
            else:
                s.table(table).drop_index(rest[0])
        return int(s.commit())


def put(chance: random.Random, table: str, keys: int, size: int) -> tuple[Any, ...]:
    row = {"n": chance.randrange(5), "text": chance.randbytes(chance.randrange(1, size)).hex()}
    return "put", table, chance.randrange(keys), row


def commits(chance: random.Random) -> Iterator[Step]:
    """Small commits in two tables; some are durable with the next that waits."""
    for n in range(16):
        changes = [put(chance, table, 6, 300) for table in ("one", "two") for _ in range(chance.randrange(1, 3))]
        yield Step(tuple(changes), "process" if n % 3 == 1 else "full")


def segments(chance: random.Random) -> Iterator[Step]:
    """Commits that fill several segments, with checkpoints that let the first ones go."""
    for n in range(14):
        yield Step((put(chance, "large", 4, 40_000), ("put", "small", n, {"n": n})), "process" if n % 2 else "full")
        if n % 6 == 5:
            yield Step(act="checkpoint")


def checkpoints(chance: random.Random) -> Iterator[Step]:
    """Each few commits are brought to a base, with an index."""
    yield Step((("index", "one", "n"),))
    for n in range(8):
        yield Step((put(chance, "one", 6, 200), put(chance, "two", 3, 200)), "process" if n % 2 else "full")
        if n % 2:
            yield Step(act="checkpoint")


def openings(chance: random.Random) -> Iterator[Step]:
    """It is closed and opened, and dies in between with commits that nobody synced."""
    for n in range(4):
        yield Step((put(chance, "one", 4, 200),))
        yield Step((put(chance, "one", 4, 200),), "process")
        yield Step(act="die" if n % 2 else "reopen")
        yield Step((put(chance, "one", 4, 200),), "process")
        if n == 2:
            yield Step(act="checkpoint")
        yield Step(act="reopen" if n % 2 else "die")


def schema(chance: random.Random) -> Iterator[Step]:
    """Indexes and tables come and go, in the journal and in bases."""
    for n in range(3):
        yield Step(tuple(put(chance, "one", 6, 100) for _ in range(3)))
        yield Step((("index", "one", "n"), put(chance, "one", 6, 100)))
        yield Step((put(chance, "two", 6, 100), ("index", "two", "text")))
        yield Step(act="checkpoint")
        yield Step((("unindex", "one", "n"), put(chance, "one", 6, 100)))
        yield Step((("drop", "two"),))
        if n != 1:
            yield Step(act="checkpoint")


WORKLOADS: dict[str, Callable[[random.Random], Iterator[Step]]] = {
    "commits": commits,
    "segments": segments,
    "checkpoints": checkpoints,
    "openings": openings,
    "schema": schema,
}


def steps(workload: str, seed: int) -> list[Step]:
    return list(WORKLOADS[workload](random.Random(f"{seed} {workload}")))


class Notes:
    """Lines for whoever verifies; they are among the recorded calls."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, what: str, **more: object) -> None:
        os.write(self.file, json.dumps({"what": what} | more).encode() + b"\n")


def run(path: Path, notes: Notes, workload: str, seed: int, first: int) -> int:
    todo = steps(workload, seed)
    commit = sum(step.act == "commit" for step in todo[:first])
    db = opened(path, notes)
    for at, step in enumerate(todo[first:], first):
        notes.write("begun", step=at, commit=commit + (step.act == "commit"))
        if step.act == "commit":
            number = apply(db, step)
            commit += 1
            notes.write("done", commit=commit, number=number, durable=step.durability == "full")
        elif step.act == "checkpoint":
            db.checkpoint()
        elif step.act == "reopen":
            db.close()
            notes.write("closed", commit=commit)
            db = opened(path, notes)
        else:
            os._exit(DIED)
    db.close()
    notes.write("closed", commit=commit)
    return 0


def opened(path: Path, notes: Notes) -> pykesto.Database:
    db = pykesto.open(path)
    notes.write("opened", number=db.version)
    return db


def recover(path: Path, notes: Notes) -> int:
    """Open what a power cut left, commit a row more, and close."""
    db = opened(path, notes)
    notes.write("begun", commit=1)
    notes.write("done", commit=1, number=apply(db, Step((("put", MARKER, 1, {}),))), durable=True)
    db.close()
    return 0


def main() -> int:
    path, notes, workload, seed, first = sys.argv[1:]
    if workload == "recovery":
        return recover(Path(path), Notes(Path(notes)))
    return run(Path(path), Notes(Path(notes)), workload, int(seed), int(first))


if __name__ == "__main__":
    sys.exit(main())
