"""Counters that survive the death of a process, and a bar that shows them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.sharedctypes import RawArray
from typing import Any

COUNTERS = ("done", "commits", "conflicts", "reads", "checks")


@dataclass(frozen=True)
class Tally:
    """One process's counters in shared memory. No lock: each process writes to its own, and may be killed."""

    cells: Any
    process: int

    def add(self, counter: str, count: int = 1) -> None:
        self.cells[self.process * len(COUNTERS) + COUNTERS.index(counter)] += count


class Tallies:
    """The counters of all processes."""

    def __init__(self, processes: int) -> None:
        self.cells = RawArray("Q", processes * len(COUNTERS))

    def of(self, process: int) -> Tally:
        return Tally(self.cells, process)

    def total(self, counter: str) -> int:
        return sum(self.cells[COUNTERS.index(counter) :: len(COUNTERS)])


class Bar:
    """A progress bar on a terminal, a line now and then elsewhere."""

    def __init__(self, title: str, total: int, *, unit: str, rated: bool = True) -> None:
        self.title, self.total, self.unit, self.rated = title, total, unit, rated
        self.began = time.monotonic()
        self.terminal = sys.stdout.isatty()
        self._next_line = 0.0

    def show(self, done: int, note: str = "") -> None:
        share = min(1.0, done / self.total) if self.total else 1.0
        text = f"{self.title:<9} {done:>7,} of {self.total:,} {self.unit} {share:4.0%} {self._rate(done)}{note}"
        if self.terminal:
            filled = int(share * 24)
            print(f"\r[{'#' * filled}{'.' * (24 - filled)}] {text}\033[K", end="", flush=True)
        elif share >= self._next_line:
            print(text, flush=True)
            self._next_line = share + 0.25

    def _rate(self, done: int) -> str:
        return f"{done / max(1e-9, time.monotonic() - self.began):,.0f}/s " if self.rated else ""

    def end(self, done: int, note: str = "") -> float:
        """The last word; returns the seconds it took."""
        took_s = time.monotonic() - self.began
        text = f"{self.title:<9} {done:>7,} {self.unit} in {took_s:.1f} s {self._rate(done)}{note}"
        print(f"\r\033[K{text}" if self.terminal else text, flush=True)
        return took_s


def wait_for(processes: list[Any], show: Callable[[], None]) -> list[int]:
    """Show progress until all processes have ended; the exit codes of those that failed."""
    while any(p.is_alive() for p in processes):
        processes[0].join(0.1) if processes[0].is_alive() else next(p for p in processes if p.is_alive()).join(0.1)
        show()
    return [p.exitcode for p in processes if p.exitcode]
