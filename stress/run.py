"""One run: start the workers and the watcher, kill some, kill all, and have a fresh process verify."""

from __future__ import annotations

import argparse
import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pykesto

from .processes import run_watcher, run_worker
from .verify import Found, tell_found
from .workloads import WORKLOADS


class Failed(Exception):
    """The run can't go on."""


class Run:
    """One run."""

    def __init__(self, options: argparse.Namespace, directory: Path, seed: int) -> None:
        self.options, self.directory = options, directory
        self.random = random.Random(seed)
        self.spawn = multiprocessing.get_context("spawn")
        self.processes: list[SpawnProcess] = []  # all that are alive; the watcher is not among `workers`
        self.workers: list[SpawnProcess] = []
        self.started = self.killed = self.snapshots = 0
        self.problems: list[str] = []

    def run(self) -> Found:
        with pykesto.open(self.directory / "db.kesto") as db, db.transaction() as s:
            for workload in WORKLOADS.values():
                workload.create(s)
        self._work()
        found = self._verify()
        found.problems[:0] = self.problems
        return found

    def end(self) -> None:
        """Kill what is alive, all before any is waited for: what follows is a recovery."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        self.processes.clear()

    def _start(self, target: Callable[..., None], *args: Any) -> SpawnProcess:
        process = self.spawn.Process(target=target, args=args)
        process.start()
        self.processes.append(process)
        return process

    def _start_worker(self) -> SpawnProcess:
        options = {"durability": self.options.durability, "isolation": self.options.isolation}
        self.started += 1
        return self._start(run_worker, self.directory, self.started, self.random.getrandbits(64), options)

    def _work(self) -> None:
        hear, tell = self.spawn.Pipe(duplex=False)
        self._start(run_watcher, self.directory, tell)
        tell.close()
        self.workers = [self._start_worker() for _ in range(self.options.processes)]
        until = time.monotonic() + self.options.seconds
        next_kill = self._next_kill(time.monotonic())
        while (now := time.monotonic()) < until and not self.problems:
            if now >= next_kill:
                self._kill_one()
                next_kill = self._next_kill(next_kill)
            self._watch(hear, max(0.0, min(until, next_kill) - time.monotonic()))
        self.end()
        while not self.problems and hear.poll() and self._hear(hear):
            pass
        hear.close()

    def _next_kill(self, now: float) -> float:
        mean_s = self.options.kill
        return now + self.random.expovariate(1 / mean_s) if mean_s else float("inf")

    def _kill_one(self) -> None:
        at = self.random.randrange(len(self.workers))
        self.workers[at].kill()
        self.workers[at].join()
        self.processes.remove(self.workers[at])
        self.workers[at] = self._start_worker()
        self.killed += 1

    def _watch(self, hear: Connection, timeout_s: float) -> None:
        """Wait for the watcher's next word, or for a process that ends by itself."""
        ready = wait([hear, *(process.sentinel for process in self.processes)], timeout_s)
        if hear in ready:
            self._hear(hear)
        for process in self.processes:
            if process.sentinel in ready:
                process.join()
                raise Failed(f"a process ended by itself, with exit code {process.exitcode}")

    def _hear(self, hear: Connection) -> bool:
        try:
            self.problems += hear.recv()
        except (EOFError, OSError):  # killed in the midst of a word
            return False
        self.snapshots += 1
        return True

    def _verify(self) -> Found:
        hear, tell = self.spawn.Pipe(duplex=False)
        process = self._start(tell_found, self.directory, tell)
        tell.close()
        try:
            return Found(**hear.recv())
        except EOFError:
            process.join()
            raise Failed(f"the verification ended with exit code {process.exitcode}") from None
        finally:
            self.end()
