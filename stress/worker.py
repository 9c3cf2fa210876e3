"""A worker: one transaction after another, each written down when it has ended, until it is killed."""

from __future__ import annotations

import contextvars
import logging
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pykesto

from .history import Recorder
from .io_faults import SyncCount
from .records import Notes, tell
from .workloads import LOGGED, WORKLOADS, Lists, Said
from .workloads.lists import think

LOCK_TIMEOUT_S = 60.0  # a loaded machine is no fault of the database
CHECKPOINT_CHANCE, ROLLBACK_CHANCE, PADDING_MAX = 0.003, 0.03, 400
GAVE_UP, UNKNOWN, PROBLEM = 75, 76, 70  # exit codes: commits are refused; an outcome is unknown; a bug was seen
EXPECTED = (0, -signal.SIGKILL, GAVE_UP, UNKNOWN)
PATIENCE = 10  # after so many refusals in a row a worker gives up
FORKED_STEPS = 5


@dataclass(frozen=True)
class Task:
    """What a process of a run is given."""

    database: Path
    records: Path
    number: int
    kind: str
    round_number: int
    seed: int
    workloads: tuple[str, ...]
    open_options: dict[str, Any] = field(default_factory=dict)
    fork_chance: float = 0.0
    memory_bytes: int = 0
    faulty: bool = False  # calls of this process may fail, or others' may, so that commits are refused

    def open(self, **more: Any) -> pykesto.Database:
        return pykesto.open(self.database, create=False, lock_timeout=LOCK_TIMEOUT_S, **self.open_options, **more)


class Undone(Exception):
    """A transaction that its worker gives up."""


class Refused(Exception):
    """A fault kept the database from committing; nothing was written."""


class Worker:
    """Takes one step after another, each a transaction and a line in its file."""

    def __init__(self, task: Task, db: pykesto.Database | None = None) -> None:
        self.task = task
        self.db = task.open() if db is None else db
        self.serializable = task.open_options.get("isolation") != "snapshot"
        self.number, self.count, self.refused = task.number, 0, 0
        self.chance = random.Random(task.seed)
        self.notes = Notes(task.records / f"acknowledged-{task.kind}-{self.number}")
        self.names = [name for name in task.workloads if WORKLOADS[name][0]]
        self.weights = [WORKLOADS[name][0] for name in self.names]
        self.lists = Lists(task.round_number, self.number, Recorder(task.records, self.number), self.chance)
        self.syncs = SyncCount() if task.open_options.get("durability") == "full" else None

    def step(self) -> None:
        (workload,) = self.chance.choices(self.names, self.weights)
        began, synced = time.monotonic_ns(), self.syncs.now() if self.syncs else None
        try:
            number, version, conflicts = self._list_step() if workload == "lists" else self._logged_step(workload)
        except Refused:
            self.refused += 1
            if self.refused >= PATIENCE:
                sys.exit(GAVE_UP)
            return
        self.refused = 0
        if version and self.syncs and self.syncs.now() == synced and synced is not None:
            tell(self.task.records, f"worker-{self.number}", f"commit {version} was acknowledged without any sync")
        now = time.monotonic_ns()
        self.notes.write(f"{number} {version} {conflicts} {(now - began) // 1000} {now // 1_000_000}")
        if self.chance.random() < CHECKPOINT_CHANCE:
            self._tolerant(self.db.checkpoint)

    def _list_step(self) -> tuple[int, int, int]:
        try:
            return 0, self.lists.transact(self.db), 0
        except pykesto.ConcurrencyConflict:
            return 0, 0, 1
        except (pykesto.StorageError, pykesto.LockTimeout) as error:
            raise self._refusal(error) from error

    def _logged_step(self, workload: str) -> tuple[int, int, int]:
        """The step's number, the commit's, 0 if nothing was written, and how many attempts met conflicts."""
        self.count += 1
        said: Said = {"workload": workload, "padding": self.chance.randbytes(self.chance.randrange(PADDING_MAX))}
        said |= {"serializable": self.serializable} | LOGGED[workload].choose(self.chance)
        version, conflicts = self._commit(said, undone=self.chance.random() < ROLLBACK_CHANCE)
        return self.count, version, conflicts

    def _commit(self, said: Said, *, undone: bool) -> tuple[int, int]:
        conflicts = -1
        try:
            for attempt in self.db.attempts(10_000):
                conflicts += 1
                with attempt as s:
                    self._act(s, dict(said))
                    if undone:
                        raise Undone
        except (pykesto.UniqueViolation, Undone):
            return 0, conflicts
        except (pykesto.StorageError, pykesto.LockTimeout) as error:
            self._acknowledge_nothing(conflicts)
            raise self._refusal(error) from error
        assert attempt.version is not None
        return attempt.version, conflicts

    def _acknowledge_nothing(self, conflicts: int) -> None:
        self.notes.write(f"{self.count} 0 {conflicts} 0 {time.monotonic_ns() // 1_000_000}")

    def _refusal(self, error: BaseException) -> BaseException:
        """Refusing is right only where calls fail."""
        expected = self.task.faulty and not isinstance(error, pykesto.CorruptionError)
        return Refused() if expected else error

    def _act(self, s: pykesto.Session, said: Said) -> None:
        step = (self.number, self.count)
        child = self._fork(s) if self.chance.random() < self.task.fork_chance else None
        LOGGED[said["workload"]].act(s, step, said)
        s.table("log")[step] = said
        think(self.chance)
        if child is not None:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code not in (*EXPECTED, PROBLEM):  # which it told of itself
                tell(self.task.records, f"worker-{self.number}", f"a forked child ended with {code}")

    def _fork(self, s: pykesto.Session) -> int:
        """A child in the midst of a transaction: the session is not its own, the database is."""
        assert s.version
        number = self.number + 1_000 * (1 + self.chance.randrange(900_000))
        if (child := os.fork()) == 0:
            fresh = contextvars.Context()  # in that of the parent a transaction is under way
            run_guarded(self.task, f"fork-{number}", lambda: fresh.run(self._as_child, s, number))
            os._exit(0)
        return child

    def _as_child(self, s: pykesto.Session, number: int) -> None:
        try:
            list(s.table("accounts").range())
            tell(self.task.records, f"fork-{number}", "a session of the parent was used in a forked child")
        except pykesto.UsageError:
            pass
        task = Task(
            **{
                **vars(self.task),
                "number": number,
                "kind": "fork",
                "seed": self.chance.getrandbits(64),
                "fork_chance": 0.0,
            }
        )
        worker = Worker(task, self.db)
        for _ in range(FORKED_STEPS):
            worker.step()

    def _tolerant(self, act: Callable[[], object]) -> None:
        try:
            act()
        except (pykesto.StorageError, pykesto.LockTimeout) as error:
            if isinstance(refusal := self._refusal(error), Refused):
                return
            raise refusal from error


def begin_process(task: Task) -> None:
    global _parent
    _parent = os.getppid()
    log = logging.getLogger("pykesto")  # what it warns of is kept with the records, and not shown
    log.addHandler(logging.FileHandler(task.records / f"log-{task.kind}-{task.number}", delay=True))
    log.propagate = logging.raiseExceptions = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the parent's, who then ends us
    os.setpgid(0, 0)  # what we fork is killed with us


_parent = 0


def parent_lives() -> bool:
    """Without it, nobody would ever end us."""
    return os.getppid() == _parent


def run_guarded(task: Task, who: str, act: Callable[[], object]) -> None:
    """Run, and end the process by an exit code that says how; whatever should never be raised is a problem."""
    try:
        act()
    except BaseException as error:  # noqa: BLE001  it is told, as nobody is there to catch it
        code = _exit_code(task, error)
        if code == PROBLEM:
            tell(task.records, who, traceback.format_exc(limit=-12))
        os._exit(code)  # as a program that crashes: nothing is closed


def _exit_code(task: Task, error: BaseException) -> int:
    if isinstance(error, pykesto.CommitUnknown) or (isinstance(error, MemoryError) and task.memory_bytes):
        return UNKNOWN
    refused = isinstance(error, pykesto.StorageError | pykesto.LockTimeout) and task.faulty
    if isinstance(error, Refused) or (refused and not isinstance(error, pykesto.CorruptionError)):
        return GAVE_UP
    return int(error.code) if isinstance(error, SystemExit) and isinstance(error.code, int) else PROBLEM


def run_worker(task: Task) -> None:
    begin_process(task)
    if task.memory_bytes:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + task.memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def work() -> None:
        worker = Worker(task)
        while parent_lives():
            worker.step()

    run_guarded(task, f"worker-{task.number}", work)


def prepare(database: Path, records: Path, size: int) -> None:
    """Before a round: make what the workloads need, or forget the last round's log; note what is there."""
    import pickle  # what we wrote ourselves, a moment ago

    with pykesto.open(database) as db:
        if "log" in db.tables():
            db.drop_table("log")
        elif "accounts" not in db.tables():
            with db.transaction() as s:
                for workload in LOGGED.values():
                    workload.create(s, size)
                s.table("lists").create_index("group")
        models = {name: workload() for name, workload in LOGGED.items()}
        with db.session(read_only=True) as s:
            for model in models.values():
                model.load(s)
    (records / "models").write_bytes(pickle.dumps(models))
