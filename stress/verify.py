"""Verify a database when all who wrote to it are dead: recover it, and play its log against what it holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pykesto

from .processes import Acknowledged, Acknowledgements
from .workloads import WORKLOADS


@dataclass
class Found:
    """What the verification saw. `commits` counts all in the log, `acknowledged` those whose workers knew of them."""

    commits: int = 0
    acknowledged: int = 0
    refused: int = 0
    conflicts: int = 0
    recovery_ms: float = 0.0
    recovered_records: int = 0
    discarded_bytes: int = 0
    workloads: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def verify(directory: Path) -> Found:
    """Recover `directory`/db.kesto and verify it against the acknowledgements beside it; then write to it once."""
    found = Found()
    steps = list(Acknowledgements(directory).new())
    began = time.monotonic()
    with pykesto.open(directory / "db.kesto", create=False) as db:
        newest = db.version
        found.recovery_ms = round((time.monotonic() - began) * 1000, 1)
        stats = db.stats()
        found.recovered_records, found.discarded_bytes = stats.recovered_records or 0, stats.discarded_bytes or 0
        with db.session(read_only=True) as s:
            found.problems += _history(s, found, steps)
        found.problems += [f"check: {problem}" for problem in db.check().problems]
        with db.session() as s:  # what was recovered can be written to
            s.table("verified")[newest] = {"problems": len(found.problems)}
            if (number := s.commit()) <= max([newest, *(one.version for one in steps)]):
                found.problems.append(f"number {number} was given to a commit after {newest}")
    return found


def tell_found(directory: Path, answer: Connection) -> None:
    """`verify`, for a process of its own."""
    answer.send(asdict(verify(directory)))


def _history(s: pykesto.Session, found: Found, steps: list[Acknowledged]) -> Iterator[str]:
    log = {row.k_key: row for row in s.table("log").range()}
    found.commits = len(log)
    found.acknowledged = sum(one.version > 0 for one in steps)
    found.refused = len(steps) - found.acknowledged
    found.conflicts = sum(one.conflicts for one in steps)
    yield from _nothing_lost(log, steps)
    yield from _nothing_added(log, steps)
    yield from _numbers_differ(log.values())
    for name, workload in WORKLOADS.items():
        yield from workload.glance(s)
        own = sorted((row.k_version or 0, key) for key, row in log.items() if row["workload"] == name)
        found.workloads[name] = len(own)
        state = workload()
        for version, key in own:
            yield from state.play(key, log[key].to_dict(), version)
        yield from state.compare(s)


def _nothing_lost(log: dict[Any, Any], steps: list[Acknowledged]) -> Iterator[str]:
    latest: dict[int, int] = {}
    for one in steps:
        row = log.get(one.step)
        if one.version and row is None:
            yield f"commit {one.version}, step {one.step}, was acknowledged and is gone"
        elif row is not None and not one.version:
            yield f"step {one.step} was refused or rolled back, and its log row is there"
        elif row is not None and row.k_version != one.version:
            yield f"step {one.step} was acknowledged as commit {one.version} and is of {row.k_version}"
        worker = one.step[0]
        if 0 < one.version <= latest.get(worker, 0):
            yield f"worker {worker} was given number {one.version} after {latest[worker]}"
        latest[worker] = one.version or latest.get(worker, 0)


def _nothing_added(log: dict[Any, Any], steps: list[Acknowledged]) -> Iterator[str]:
    """Of a killed worker one more step than it acknowledged may be there: the one that it was in."""
    last: dict[int, int] = {}
    for one in steps:
        worker, number = one.step
        if number != last.get(worker, 0) + 1:
            yield f"the acknowledgements of worker {worker} go from {last.get(worker, 0)} to {number}"
        last[worker] = number
    for worker, number in log:
        if number > last.get(worker, 0) + 1:
            yield f"step {(worker, number)} is there, and worker {worker} was in step {last.get(worker, 0) + 1}"


def _numbers_differ(rows: Iterable[pykesto.Row]) -> Iterator[str]:
    by_number: dict[int | None, Any] = {}
    for row in rows:
        if row.k_version in by_number:
            yield f"steps {by_number[row.k_version]} and {row.k_key} are both of commit {row.k_version}"
        by_number[row.k_version] = row.k_key
