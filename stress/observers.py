"""Processes that look at a run from outside while it goes on: at snapshots, at one for long, at the history so far."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pykesto

from .check_history import check
from .history import History
from .records import Acknowledged, Acknowledgements, Notes, sizes, tell
from .worker import Task, begin_process, parent_lives, run_guarded
from .workloads import LOGGED, Node

WATCHING_SHARE, CHECKING_SHARE = 0.3, 0.2  # of their time at most: the workers are to work
LONGEST_READ_S = 8.0
Look = tuple[str, Callable[[pykesto.Session], Any]]


class Watcher:
    """Looks at one snapshot after another."""

    def __init__(self, task: Task) -> None:
        self.db = task.open(read_only=True)
        self.acknowledged = Acknowledgements(task.records)
        self.seen: dict[object, int] = {}  # k_version of what was found in the last snapshot
        self.version = 0

    def look(self) -> list[str]:
        known = list(self.acknowledged.new())  # before the snapshot begins: so it must have them all
        with self.db.session(read_only=True) as s:
            problems = [*self._missed(s, known), *self._gone_back(s)]
            for workload in LOGGED.values():
                problems += workload.glance(s)
        return problems

    def _missed(self, s: pykesto.Session, known: list[Acknowledged]) -> Iterator[str]:
        log = s.table("log")
        for one in known:
            row = log.get(one.step) if one.number else None
            if one.number and (found := 0 if row is None else row.k_version) != one.version:
                yield f"step {one.step} was acknowledged as commit {one.version}, a snapshot after it has {found}"

    def _gone_back(self, s: pykesto.Session) -> Iterator[str]:
        found: dict[object, int] = {}
        for table in ("accounts", "names", "counters"):
            found |= {(table, row.k_key): row.k_version or 0 for row in s.table(table).range()}
        found |= {node.k_id: node.k_version or 0 for node in s.query(Node)}
        for what in found.keys() & self.seen.keys():
            if found[what] < self.seen[what]:
                yield f"k_version of {what} went back from {self.seen[what]} to {found[what]}"
        if s.version < max(self.version, *found.values()):
            yield f"a snapshot has version {s.version}, after {self.version}, and rows of {max(found.values())}"
        self.seen, self.version = found, s.version


def run_watcher(task: Task) -> None:
    """Tell of each snapshot what is wrong with it, and how large the journal and the overlay are."""
    begin_process(task)

    def watch() -> None:
        watcher, notes = Watcher(task), Notes(task.records / f"sizes-{task.number}")
        while parent_lives():
            began = time.monotonic()
            tell(task.records, f"watcher-{task.number}", *watcher.look())
            notes.write(json.dumps({"at_ms": time.monotonic_ns() // 1_000_000} | sizes(watcher.db)))
            time.sleep((time.monotonic() - began) * (1 / WATCHING_SHARE - 1))

    run_guarded(task, f"watcher-{task.number}", watch)


def run_checker(task: Task) -> None:
    """Check the history of the round so far, again and again."""
    begin_process(task)

    def check_all() -> None:
        history = History(task.records)
        level = level_of(task.open_options["isolation"])
        while parent_lives():
            began = time.monotonic()
            against = check(history.transactions()).against(level)
            tell(task.records, f"checker-{task.number}", *(f"not {level}: {anomaly}" for anomaly in against))
            if against:
                return
            time.sleep(max(0.2, (time.monotonic() - began) / CHECKING_SHARE))

    run_guarded(task, f"checker-{task.number}", check_all)


def level_of(isolation: str) -> str:
    """What is promised: nobody ever reads what is older than what was committed when they began."""
    return "strict serializable" if isolation == "serializable" else "strict snapshot isolation"


def run_reader(task: Task) -> None:
    """Hold one snapshot for long, and see the same in it again and again."""
    begin_process(task)

    def read() -> None:
        chance = random.Random(task.seed)
        db = task.open()
        while parent_lives():
            with db.session(read_only=True) as s:
                hold(task, s, chance, seconds=chance.uniform(0, LONGEST_READ_S))

    run_guarded(task, f"reader-{task.number}", read)


def hold(
    task: Task, s: pykesto.Session, chance: random.Random, *, seconds: float, looks: list[Look] | None = None
) -> None:
    """Look at the same snapshot again and again, and tell if it changes."""
    until = time.monotonic() + seconds
    seen: dict[str, Any] = {}
    while time.monotonic() < until:
        name, look = chance.choice(looks or LOOKS)
        found = look(s)
        if seen.setdefault(name, found) != found:
            what = f"a snapshot of version {s.version} showed other {name} than before"
            tell(task.records, f"reader-{task.number}", what)
            return
        time.sleep(chance.uniform(0, 0.1))


def _rows(table: str) -> Callable[[pykesto.Session], Any]:
    return lambda s: [(row.k_key, row.k_version, row.to_dict()) for row in s.table(table).range()]


LOOKS: list[Look] = [
    ("accounts", _rows("accounts")),
    ("things", _rows("things")),
    ("names", lambda s: sorted(s.table("names").query.col("name").ge("").select("k_key", "name"))),
    ("nodes", lambda s: sorted((node.label, node.k_version, node.next.label) for node in s.query(Node))),
    ("length of the log", lambda s: len(s.table("log"))),
    ("colours", lambda s: list(s.table("things").query.order_by("colour").select("k_key", "colour"))),
]
