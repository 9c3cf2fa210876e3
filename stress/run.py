"""One run: rounds of work with faults; at the end of each all are killed, and a fresh process recovers and verifies."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from . import after_death, observers, storms, web, worker
from .disk import Disk
from .io_faults import Library, failing_calls
from .measure import Timeline
from .options import Options
from .records import Lines, problems
from .verify import Found, write_found

VARIABLE = "PYKESTO_FAILPOINTS"
MIB = 1 << 20
LOOK_S = 0.1
PATIENCE_S = 120.0  # a round goes on until something was committed and looked at, on a loaded machine too
COPY_BYTES_MAX = 1 << 30
VERIFY_S = 900.0


class Failed(Exception):
    """The run can't go on."""


@dataclass
class Running:
    """One process of a round, and how another takes its place."""

    process: BaseProcess
    kind: str
    again: Callable[[], Running] | None
    little_memory: bool = False
    stopped_until: float = 0.0

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def send(self, number: int) -> None:
        """To the process and what it forked."""
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self.pid, number)
                return


class Run:
    """One run in `directory`."""

    def __init__(self, options: Options, directory: Path, progress: Callable[[Run], None] | None = None) -> None:
        self.options, self.directory = options, directory
        self.progress = progress
        self.random = random.Random(options.seed)
        self.spawn = multiprocessing.get_context("spawn")  # for those with an environment of their own
        self.fork = multiprocessing.get_context("forkserver")  # the others, who begin in no time
        self.fork.set_forkserver_preload([f"{__package__}.{name}" for name in ("observers", "storms", "web")])
        self.disk = Disk(directory, wanted="full" in options.faults)
        self.database = self.disk.directory / "db.kesto"
        self.library = Library(directory, self.database)
        self.running: list[Running] = []
        self.started = self.round = 0
        self.counts: Counter[str] = Counter()
        self.exits: Counter[str] = Counter()
        self.problems: list[str] = []
        self.notes: list[str] = self._what_is_left_out()
        self.found: list[Found] = []
        self.next: dict[str, float] = {}
        self.began = time.monotonic()
        self.timeline = Timeline(int(self.began * 1000))

    def _what_is_left_out(self) -> list[str]:
        left = [] if self.disk.limited or "full" not in self.options.faults else [f"full disk: {self.disk.why_not}"]
        if not self.library.usable and {"io", "sync", "clock"} & set(self.options.faults):
            left.append("io, sync and clock faults: they need Linux and a C compiler")
        if "web" in self.options.workloads and not web.available():
            left.append("web requests: gunicorn is not installed")
        return left

    # The run

    def run(self) -> None:
        """All rounds, until the time is over or a problem was found."""
        with environment_of(self._environment()):
            self._run()

    def _run(self) -> None:
        until = self.began + self.options.seconds
        while not self.problems and (not self.round or time.monotonic() < until):
            self.round += 1
            records = self.directory / f"round-{self.round}"
            records.mkdir()
            shutil.rmtree(records.with_name(f"round-{self.round - 1}"), ignore_errors=True)
            self._call(worker.prepare, self.database, records, self.options.size)
            self.timeline.begin_round(records)
            self._work(records, min(until, time.monotonic() + self.options.round_s))
            self._mark("all killed")
            self._judge(records)

    def end(self) -> None:
        """Kill what is alive, all before any is waited for: what follows is a recovery."""
        for one in self.running:
            one.send(signal.SIGKILL)
        for one in self.running:
            one.process.join()
            one.send(signal.SIGKILL)  # what it had forked and not in time been told of
        self.running.clear()

    def close(self) -> None:
        self.end()
        self.disk.close()

    def _mark(self, what: str) -> None:
        self.timeline.mark(time.monotonic_ns() // 1_000_000, what)

    # A round

    def _work(self, records: Path, until: float) -> None:
        self.complaints = Lines(records, "problems-*")
        self._start_all(records)
        self.next = {name: self._later(name) for name in ("kill", "stop", "full") if name in self.options.faults}
        sync_fails_at = self._sync_failure(until)
        seen, commits = self.timeline.snapshots, self.timeline.commits
        hopeless = until + PATIENCE_S
        gave_up = False
        while not self.problems and not gave_up:
            now = time.monotonic()
            tried = self.timeline.snapshots > seen and self.timeline.commits >= commits + self.options.least
            if now >= until and (tried or now > hopeless):
                break
            if now >= sync_fails_at:
                sync_fails_at = float("inf")
                self._start_worker(records, sync_fails=True)
            self._faults(now)
            gave_up = self._watch(LOOK_S)
            self._look()
        self.end()
        self._look()
        self.disk.relieve()

    def _look(self) -> None:
        self.timeline.look()
        self.problems += problems(self.complaints)
        if self.progress is not None:
            self.progress(self)

    def _task(self, records: Path, kind: str, **more: Any) -> worker.Task:
        self.started += 1
        options = {"durability": self.options.durability, "isolation": self.options.isolation}
        faulty = bool({"io", "sync", "full", "memory"} & set(self.options.faults))
        return worker.Task(
            self.database,
            records,
            self.started,
            kind,
            self.round,
            self.random.getrandbits(63),
            self.options.workloads,
            options,
            faulty=faulty,
            **more,
        )

    def _start_all(self, records: Path) -> None:
        self._start(observers.run_watcher, self._task(records, "watcher"))
        if "lists" in self.options.workloads:
            self._start(observers.run_checker, self._task(records, "checker"))
        if "readers" in self.options.workloads:
            self._start(observers.run_reader, self._task(records, "reader"), again=True)
        if "storms" in self.options.workloads:
            self._start(storms.run_storm, self._task(records, "storm"))
        if "web" in self.options.workloads and web.available():
            self._start(web.run_client, self._task(records, "web"))
        for _ in range(self.options.processes):
            self._start_worker(records)

    def _start(
        self,
        target: Callable[..., None],
        task: worker.Task,
        *,
        again: bool = False,
        environment: dict[str, str] | None = None,
    ) -> Running:
        with environment_of(environment or {}):
            process = (self.spawn if environment else self.fork).Process(target=target, args=(task,))
            process.start()
        another = partial(self._start_again, target, task.kind, task.records) if again else None
        self.running.append(Running(process, task.kind, another))
        return self.running[-1]

    def _start_again(self, target: Callable[..., None], kind: str, records: Path) -> Running:
        return self._start(target, self._task(records, kind), again=True)

    def _environment(self) -> dict[str, str]:
        """What all processes have: broken rules, and a count of syncs to hold acknowledgements against."""
        broken = {VARIABLE: self.options.broken} if self.options.broken else {}
        counting = self.options.durability == "full"
        return broken | (self.library.environment([], self.options.seed) if counting else {})

    def _start_worker(self, records: Path, *, sync_fails: bool = False) -> Running:
        faults, chance = self.options.faults, self.random
        rules: list[str] = []
        places = [self.options.broken] if self.options.broken else []
        if sync_fails:
            rules.append("sync:0.5:5")
            self._count("failing sync")
        elif self._has_lot("io"):
            rules += failing_calls(chance)
            self._count("failing calls")
        if self._has_lot("clock"):
            rules.append("clock:0.01:0")
            self._count("jumping clock")
        if self._has_lot("failpoints"):
            places += ["journal.*=kill:0.002", "checkpoint.*=kill:0.05"]
            self._count("failpoints")
        memory = chance.randrange(2, 60) * MIB if self._has_lot("memory") else 0
        self.counts["little memory"] += bool(memory)
        environment = {VARIABLE: ",".join(places)} if places else {}
        if rules:
            environment |= self.library.environment(rules, chance.getrandbits(32))
        task = self._task(records, "worker", fork_chance=faults.get("fork", 0.0), memory_bytes=memory)
        one = self._start(worker.run_worker, task, environment=environment)
        one.little_memory = bool(memory)
        one.again = None if sync_fails else partial(self._start_worker, records)
        return one

    def _has_lot(self, fault: str) -> bool:
        return self.random.random() < self.options.faults.get(fault, 0.0)

    def _sync_failure(self, until: float) -> float:
        fails = self.library.usable and self._has_lot("sync")
        return until - self.options.round_s * self.random.uniform(0.2, 0.6) if fails else float("inf")

    # Faults

    def _later(self, fault: str) -> float:
        return time.monotonic() + self.random.expovariate(1 / self.options.faults[fault])

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        self._mark(what)

    def _faults(self, now: float) -> None:
        for one in self.running:
            if one.stopped_until and now >= one.stopped_until:
                one.stopped_until = 0.0
                one.send(signal.SIGKILL if self.random.random() < 0.3 else signal.SIGCONT)
        for fault, act in (("kill", self._kill_one), ("stop", self._stop_one), ("full", self._fill)):
            if now >= self.next.get(fault, float("inf")):
                act()
                self.next[fault] = self._later(fault)

    def _victims(self) -> list[Running]:
        return [one for one in self.running if one.again is not None]

    def _kill_one(self) -> None:
        self._count("kill")
        served = [pid for one in self.running if one.kind == "web" for pid in web.workers_below(one.pid)]
        victims = self._victims()
        at = self.random.randrange(len(victims) + len(served))
        if at < len(victims):
            victims[at].send(signal.SIGKILL)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(served[at - len(victims)], signal.SIGKILL)

    def _stop_one(self) -> None:
        self._count("stop")
        one = self.random.choice(self._victims())
        one.send(signal.SIGSTOP)
        one.stopped_until = time.monotonic() + self.random.uniform(0.05, 2.0)

    def _fill(self) -> None:
        if self.disk.limited:
            self._count("full disk")
            self.disk.fill(self.random.uniform(0.1, 1.0))

    def _watch(self, timeout_s: float) -> bool:
        """Wait a moment; put another in the place of who ended. True if commits are refused for good."""
        self.disk.relieve_in_time()
        ready = set(wait([one.process.sentinel for one in self.running], timeout_s))
        gave_up = False
        for one in [one for one in self.running if one.process.sentinel in ready]:
            one.process.join()
            one.send(signal.SIGKILL)  # what it forked
            self.running.remove(one)
            gave_up |= self._take_exit(one)
            if one.again is not None:
                one.again()
        return gave_up

    def _take_exit(self, one: Running) -> bool:
        code = one.process.exitcode
        if one.little_memory and code == 1:
            code = worker.UNKNOWN  # Tokyo Cabinet ends a program that has no memory left
        known = {0: "ended", -signal.SIGKILL: "killed", worker.GAVE_UP: "gave up", worker.UNKNOWN: "outcome unknown"}
        self.exits[f"{one.kind} {known.get(code or 0, f'exit code {code}')}"] += 1
        problem = code == worker.PROBLEM  # it has told of it
        if code not in known and not problem:
            self.problems.append(f"a {one.kind} ended with exit code {code}")
        if one.kind not in ("worker", "reader") and code == -signal.SIGKILL:
            self.problems.append(f"the {one.kind} was killed by nobody of us")
        return code == worker.GAVE_UP and self._refused_for_good()

    def _refused_for_good(self) -> bool:
        """After a failed sync nobody may commit until all have closed: so the round ends."""
        self._mark("commits are refused")
        return True

    # When all are dead

    def _judge(self, records: Path) -> None:
        """Recover, verify and keep what is needed to see what went wrong."""
        if _size(self.database) < COPY_BYTES_MAX:
            after_death.copy(self.database, self.directory / "before-recovery.kesto")
        if not self.problems:
            self._harm_copies(records)
        self._kill_recoveries()
        found = self._verify(self.database, records)
        self.problems += found.problems
        self.found.append(found)

    def _kill_recoveries(self) -> None:
        times = _poisson(self.random, self.options.faults.get("recovery", 0.0))
        for _ in range(times):
            rules = ",".join(filter(None, ["recovery.*=kill:0.4", self.options.broken]))
            with environment_of({VARIABLE: rules}):
                code = self._wait_for(self.spawn.Process(target=_open_and_close, args=(self.database,)))
            self.counts["recovery killed"] += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                self.problems.append(f"a recovery that was to be killed ended with exit code {code}")

    def _harm_copies(self, records: Path) -> None:
        copy = self.directory / "copy.kesto"
        if self.options.durability == "full":
            for _ in range(_poisson(self.random, self.options.faults.get("torn", 0.0))):
                after_death.copy(self.database, copy)
                if what := after_death.tear(copy, records, self.random):
                    self.counts["torn journal"] += 1
                    self._expect_whole(copy, records, what)
        flips = _poisson(self.random, self.options.faults.get("flip", 0.0))
        closed = self.directory / "closed.kesto"
        if flips:
            after_death.copy(self.database, closed)
            self._call(after_death.close_cleanly, closed)
        for _ in range(flips):
            self._flip(after_death.copy(closed, copy), records)
        if not self.problems:
            for path in (copy, closed):
                shutil.rmtree(path, ignore_errors=True)

    def _expect_whole(self, copy: Path, records: Path, what: str) -> None:
        self.problems += [f"after I {what}: {problem}" for problem in self._verify(copy, records).problems]

    def _flip(self, copy: Path, records: Path) -> None:
        what = f"flipped {after_death.flip(copy, self.random)}"
        answer = self.directory / "answer"
        answer.unlink(missing_ok=True)
        code = self._wait_for(self.fork.Process(target=after_death.read_everything, args=(copy, answer)))
        said = answer.read_text() if answer.exists() else ""
        self.counts[f"flipped bit {said or 'crashed'}"] += 1
        if not said:
            self.problems.append(f"after I {what}: reading everything ended with exit code {code}")
        elif said == "silent":
            self._expect_whole(copy, records, what)

    def _verify(self, database: Path, records: Path) -> Found:
        answer = self.directory / "found.json"
        answer.unlink(missing_ok=True)
        arguments = (database, records, self.options.isolation, self.round, answer)
        code = self._wait_for(self.fork.Process(target=write_found, args=arguments))
        if not answer.exists():
            return Found(problems=[f"the verification of {database.name} ended with exit code {code}"])
        return Found(**json.loads(answer.read_text()))

    def _wait_for(self, process: BaseProcess) -> int | None:
        process.start()
        process.join(VERIFY_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            self.problems.append(f"a process did not end in {VERIFY_S:g} s, and was killed")
        return process.exitcode

    def _call(self, target: Callable[..., Any], *arguments: Any) -> None:
        code = self._wait_for(self.fork.Process(target=target, args=arguments))
        if code != 0:
            raise Failed(f"{target.__name__} ended with exit code {code}")


@contextmanager
def environment_of(variables: dict[str, str]) -> Iterator[None]:
    """The environment for processes that are started in the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _open_and_close(database: Path) -> None:
    import pykesto

    pykesto.open(database, create=False).close()


def _poisson(chance: random.Random, mean: float) -> int:
    """How many of what happens `mean` times in the mean (Knuth)."""
    left, times = chance.random(), 0
    while mean and left > 2.718281828459045**-mean:
        left *= chance.random()
        times += 1
    return times


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
