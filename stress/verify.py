"""Verify a database when all who wrote to it are dead: recover it, and play its log against what it holds."""

from __future__ import annotations

import json
import pickle
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pykesto

from .check_history import Verdict, check
from .history import PATTERN, Transaction, load
from .observers import level_of
from .records import Acknowledged, Acknowledgements
from .workloads import LOGGED, Workload
from .workloads.lists import read_all


@dataclass
class Found:
    """What the verification saw. `commits` counts all in the log, `acknowledged` those whose workers knew of them."""

    commits: int = 0
    acknowledged: int = 0
    refused: int = 0
    conflicts: int = 0
    transactions: int = 0  # of the history of lists
    recovery_ms: float = 0.0
    recovered_records: int = 0
    discarded_bytes: int = 0
    workloads: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def verify(database: Path, records: Path, isolation: str = "serializable", round_number: int = 1) -> Found:
    """Recover `database` and verify it against what its workers wrote down in `records`; then write to it once."""
    found = Found()
    steps = list(Acknowledgements(records).new())
    began = time.monotonic()
    with pykesto.open(database, create=False) as db:
        newest = db.version
        found.recovery_ms = round((time.monotonic() - began) * 1000, 1)
        stats = db.stats()
        found.recovered_records, found.discarded_bytes = stats.recovered_records or 0, stats.discarded_bytes or 0
        with db.session(read_only=True) as s:
            found.problems += _log(s, found, steps, pickle.loads((records / "models").read_bytes()))
            verdict = _history(s, records, round_number)
        found.transactions = verdict.transactions
        found.problems += [f"not {level_of(isolation)}: {one}" for one in verdict.against(level_of(isolation))]
        found.problems += [f"check: {problem}" for problem in db.check().problems]
        with db.session() as s:  # what was recovered can be written to
            s.table("verified")[0] = {"version": newest, "problems": len(found.problems)}
            if (number := s.commit()) <= max([newest, *(one.version for one in steps)]):
                found.problems.append(f"number {number} was given to a commit after {newest}")
    return found


def write_found(database: Path, records: Path, isolation: str, round_number: int, answer: Path) -> None:
    """`verify`, for a process of its own."""
    try:
        found = verify(database, records, isolation, round_number)
    except Exception:  # noqa: BLE001  it is told, as nobody is there to catch it
        found = Found(problems=[traceback.format_exc(limit=-12)])
    answer.write_text(json.dumps(asdict(found), indent=2))


def _history(s: pykesto.Session, records: Path, round_number: int) -> Verdict:
    """The history of the round, with a transaction at its end that reads all lists, missing ones as empty."""
    history = load([records]) if list(records.glob(PATTERN)) else []
    reads = {key: values for _, key, values in read_all(s, round_number)}
    missing = {key for one in history for _, key, _ in one.operations} - set(reads)
    operations = [("read", key, values) for key, values in [*reads.items(), *((key, []) for key in sorted(missing))]]
    now = time.monotonic_ns()
    return check([*history, Transaction(-1, now, operations, end=now, status="ok", where="after recovery")])


def _log(s: pykesto.Session, found: Found, steps: list[Acknowledged], models: dict[str, Workload]) -> Iterator[str]:
    log = {row.k_key: row for row in s.table("log").range()}
    logged = [one for one in steps if one.number]
    found.commits = len(log)
    found.acknowledged = sum(one.version > 0 for one in logged)
    found.refused = len(logged) - found.acknowledged
    found.conflicts = sum(one.conflicts for one in steps)
    found.workloads["lists"] = sum(one.number == 0 and not one.conflicts for one in steps)
    yield from _nothing_lost(log, logged)
    yield from _nothing_added(log, logged)
    yield from _numbers_differ(log.values())
    for name in LOGGED:
        yield from models[name].glance(s)
        own = sorted((row.k_version or 0, key) for key, row in log.items() if row["workload"] == name)
        found.workloads[name] = len(own)
        for version, key in own:
            yield from models[name].play(key, log[key].to_dict(), version)
        yield from models[name].compare(s)


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
        if 0 < one.version <= latest.get(one.worker, 0):
            yield f"worker {one.worker} was given number {one.version} after {latest[one.worker]}"
        latest[one.worker] = one.version or latest.get(one.worker, 0)


def _nothing_added(log: dict[Any, Any], steps: list[Acknowledged]) -> Iterator[str]:
    """Of a killed worker one more step than it acknowledged may be there: the one that it was in."""
    last: dict[int, int] = {}
    for one in steps:
        if one.number != last.get(one.worker, 0) + 1:
            yield f"the acknowledgements of worker {one.worker} go from {last.get(one.worker, 0)} to {one.number}"
        last[one.worker] = one.number
    for worker, number in log:
        if number > last.get(worker, 0) + 1:
            yield f"step {(worker, number)} is there, and worker {worker} was in step {last.get(worker, 0) + 1}"


def _numbers_differ(rows: Iterable[pykesto.Row]) -> Iterator[str]:
    by_number: dict[int | None, Any] = {}
    for row in rows:
        if row.k_version in by_number:
            yield f"steps {by_number[row.k_version]} and {row.k_key} are both of commit {row.k_version}"
        by_number[row.k_version] = row.k_key
