"""The processes of a run: workers that commit until they are killed, and a watcher that looks at what they do."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pykesto

from .workloads import WORKLOADS, Node, Said, Step

LOCK_TIMEOUT_S = 60.0  # a loaded machine is no fault of the database
CHECKPOINT_CHANCE, ROLLBACK_CHANCE, PADDING_MAX = 0.003, 0.03, 400


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A step that its worker knows the end of. `version` is 0 if it was refused or rolled back: nothing was written."""

    step: Step
    version: int
    conflicts: int


class Acknowledgements:
    """Files that workers write to after each step, one each; read on from where the last reading ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[Acknowledged]:
        for path in sorted(self.directory.glob("acknowledged-*")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]  # the rest is being written, or its writer was killed
            self._read[path] = self._read.get(path, 0) + len(whole)
            worker = int(path.name.removeprefix("acknowledged-"))
            for line in whole.splitlines():
                number, version, conflicts = map(int, line.split())
                yield Acknowledged((worker, number), version, conflicts)


class _Undone(Exception):
    """A transaction that its worker gives up."""


class Worker:
    """Takes one step after another, each a transaction and a line in its file."""

    def __init__(self, directory: Path, number: int, seed: int, options: dict[str, Any]) -> None:
        self.db = pykesto.open(directory / "db.kesto", lock_timeout=LOCK_TIMEOUT_S, **options)
        self.serializable = options.get("isolation") != "snapshot"
        self.number, self.count = number, 0
        self.chance = random.Random(seed)
        self.file = os.open(directory / f"acknowledged-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def run(self) -> None:
        while parent_lives():
            self.count += 1
            workload = self.chance.choice(list(WORKLOADS))
            said: Said = {"workload": workload, "padding": self.chance.randbytes(self.chance.randrange(PADDING_MAX))}
            said |= {"serializable": self.serializable} | WORKLOADS[workload].choose(self.chance)
            version, conflicts = self._commit(said, undone=self.chance.random() < ROLLBACK_CHANCE)
            os.write(self.file, f"{self.count} {version} {conflicts}\n".encode())
            if self.chance.random() < CHECKPOINT_CHANCE:
                self.db.checkpoint()

    def _commit(self, said: Said, *, undone: bool) -> tuple[int, int]:
        """The commit's number, 0 if nothing was written, and how many attempts met conflicts."""
        conflicts = -1
        try:
            for attempt in self.db.attempts(10_000):
                conflicts += 1
                with attempt as s:
                    self._act(s, dict(said))
                    if undone:
                        raise _Undone
        except (pykesto.UniqueViolation, _Undone):
            return 0, conflicts
        assert attempt.version is not None
        return attempt.version, conflicts

    def _act(self, s: pykesto.Session, said: Said) -> None:
        step = (self.number, self.count)
        WORKLOADS[said["workload"]].act(s, step, said)
        s.table("log")[step] = said


def parent_lives() -> bool:
    """Without it, nobody would ever end us."""
    parent = multiprocessing.parent_process()
    return parent is None or parent.pid == os.getppid()


def run_worker(directory: Path, number: int, seed: int, options: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's, who then ends us
    Worker(directory, number, seed, options).run()


class Watcher:
    """Looks at one snapshot after another from outside."""

    def __init__(self, directory: Path) -> None:
        self.db = pykesto.open(directory / "db.kesto", read_only=True)
        self.acknowledged = Acknowledgements(directory)
        self.seen: dict[object, int] = {}  # k_version of what was found in the last snapshot
        self.version = 0

    def look(self) -> list[str]:
        known = list(self.acknowledged.new())  # before the snapshot begins: so it must have them all
        with self.db.session(read_only=True) as s:
            problems = [*self._missed(s, known), *self._gone_back(s)]
            for workload in WORKLOADS.values():
                problems += workload.glance(s)
        return problems

    def _missed(self, s: pykesto.Session, known: list[Acknowledged]) -> Iterator[str]:
        log = s.table("log")
        for one in known:
            row = log.get(one.step)
            if (found := 0 if row is None else row.k_version) != one.version:
                yield f"step {one.step} was acknowledged as commit {one.version}, a snapshot after it has {found}"

    def _gone_back(self, s: pykesto.Session) -> Iterator[str]:
        found: dict[object, int] = {}
        for table in ("accounts", "names"):
            found |= {(table, row.k_key): row.k_version or 0 for row in s.table(table).range()}
        found |= {node.k_id: node.k_version or 0 for node in s.query(Node)}
        for what in found.keys() & self.seen.keys():
            if found[what] < self.seen[what]:
                yield f"k_version of {what} went back from {self.seen[what]} to {found[what]}"
        if s.version < max(self.version, *found.values()):
            yield f"a snapshot has version {s.version}, after {self.version}, and rows of {max(found.values())}"
        self.seen, self.version = found, s.version


def run_watcher(directory: Path, tell: Connection) -> None:
    """Tell of each snapshot what is wrong with it, until killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watcher = Watcher(directory)
    with suppress(BrokenPipeError):  # nobody hears us any more
        while parent_lives():
            tell.send(watcher.look())
