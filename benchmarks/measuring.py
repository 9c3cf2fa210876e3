"""What all benchmarks here share: peers that take turns, medians, ratios held against bars, and the table of them.

A benchmark gathers a figure of each peer in each round, in one run, and makes a `Line` of them:

    rounds = take_turns(["pykesto", "sqlite3"], repeats=5, measure=lambda peer: rate(work[peer], seconds=1.0))
    line = Line("point reads", figures(rounds, lambda one: one), bars=(Bar(2.0, "sqlite3"),))
    print(table([line]))

Ratios are those of pykesto to a peer within a round, so that what else the machine did meets both; shown is the median
of the rounds. A peer that isn't installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pykesto

T = TypeVar("T")

OWN = "pykesto"
IN_MEMORY = {"tmpfs", "ramfs"}


class Failed(Exception):
    """A peer failed, or gave a wrong answer."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What is asked of pykesto: a ratio to `peer`, or with None a figure in the line's unit."""

    limit: float
    peer: str | None = "sqlite3"
    at_most: bool = False

    def __str__(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.limit:g}" + (f" x {self.peer}" if self.peer else "")

    def met(self, value: float) -> bool:
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar beside what was measured. `value` is None where the peer was left out: then there is no verdict."""

    bar: Bar
    value: float | None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.bar.met(self.value)

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.bar}: not measured"
        return f"{self.bar}: {self.value:.3g} {'met' if self.met else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: for each peer a figure of each round. `extra` goes to --json as it is."""

    title: str
    figures: dict[str, list[float]]
    unit: str = "a second"
    bars: tuple[Bar, ...] = ()
    notes: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)

    def median(self, peer: str) -> float:
        return statistics.median(self.figures[peer])

    def ratio(self, peer: str) -> float | None:
        """pykesto's figure to the peer's: the median of the rounds' ratios. None if one of them was left out."""
        pairs = zip(self.figures.get(OWN, ()), self.figures.get(peer, ()), strict=False)
        ratios = [own / other for own, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    def verdicts(self) -> list[Verdict]:
        def value(bar: Bar) -> float | None:
            if bar.peer is not None:
                return self.ratio(bar.peer)
            return self.median(OWN) if OWN in self.figures else None

        return [Verdict(bar, value(bar)) for bar in self.bars]

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "unit": self.unit,
            "figures": self.figures,
            "medians": {peer: self.median(peer) for peer in self.figures},
            "ratios": {peer: self.ratio(peer) for peer in self.figures if peer != OWN},
            "bars": [{"bar": str(one.bar), "value": one.value, "met": one.met} for one in self.verdicts()],
            "notes": self.notes,
            **self.extra,
        }


# Measuring


def take_turns(peers: Sequence[str], repeats: int, measure: Callable[[str], T]) -> dict[str, list[T]]:
    """`measure(peer)` for each peer in each round; every other round goes the other way."""
    results: dict[str, list[T]] = {peer: [] for peer in peers}
    for number in range(repeats):
        for peer in peers if number % 2 == 0 else reversed(peers):
            results[peer].append(measure(peer))
    return results


def figures(rounds: dict[str, list[T]], figure: Callable[[T], float]) -> dict[str, list[float]]:
    """One number of each result of `take_turns`."""
    return {peer: [figure(one) for one in results] for peer, results in rounds.items()}


def rate(work: Callable[[], object], seconds: float, *, each: int = 1) -> float:
    """How often a second, in this process: `work()` does it `each` times, and is called until the time is over."""
    began = now = time.perf_counter()
    calls = 0
    while calls == 0 or now < began + seconds:
        work()
        calls += 1
        now = time.perf_counter()
    return calls * each / (now - began)


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value that this share of the sorted values does not exceed (the nearest rank)."""
    return sorted_values[max(0, math.ceil(share * len(sorted_values)) - 1)]


def require_same(what: str, answers: dict[str, Any]) -> None:
    """All peers must have found the same."""
    first = next(iter(answers))
    for peer, answer in answers.items():
        if answer != answers[first]:
            raise Failed(f"{what}: {first} found {answers[first]!r:.200}, {peer} {answer!r:.200}")


# Showing


def number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """For argparse: a number between two others."""

    def convert(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    convert.__name__ = "number" if kind is float else "whole number"
    return convert


def parser(name: str, description: str | None, works: Iterable[str]) -> argparse.ArgumentParser:
    """The options that all benchmarks have."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    add = made.add_argument
    known = list(works)
    add("--only", choices=known, nargs="+", default=known, metavar="WORK", help=f"of: {', '.join(known)} (all)")
    add("--seconds", type=number(float, 0.01, 3600), default=1.0, metavar="S", help="of each measurement (1)")
    add("--repeat", type=number(int, 1, 1000), default=3, metavar="N", help="how often each is made (3)")
    add("--json", action="store_true", help="print one JSON object, with every single figure")
    return made


def file_system(path: Path) -> str:
    """The type of the file system that holds a directory, as the kernel names it."""
    path, found = path.resolve(), (Path("/"), "unknown")
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:  # not Linux
        return "unknown"
    for line in mounts:
        _, place, kind, *_ = line.split()
        place = place.replace("\\040", " ")
        if path.is_relative_to(place) and len(Path(place).parts) >= len(found[0].parts):
            found = (Path(place), kind)
    return found[1]


def conditions(directory: Path, **more: str) -> dict[str, Any]:
    """Where and with what it was measured. `more`: versions of the peers."""
    return {
        "pykesto": pykesto.__version__,
        **more,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "file system": file_system(directory),
    }


def sync_us(directory: Path, at_most_s: float = 0.5) -> int:
    """What it takes to write 1 KB and sync it, in microseconds, the median: all that is durable waits for that."""
    block, took = b"x" * 1024, []
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        file.write(bytes(1 << 20))
        os.fsync(file.fileno())
        began = time.perf_counter()
        while len(took) < 3 or (len(took) < 1000 and time.perf_counter() - began < at_most_s):
            before = time.perf_counter()
            os.pwrite(file.fileno(), block, len(took) * len(block))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - before)
    return round(statistics.median(took) * 1e6)


def table(lines: Sequence[Line]) -> str:
    """All lines: the median of each peer, pykesto's ratio to it, then the bars."""
    return "\n".join(text for line in lines for text in _texts(line))


def _texts(line: Line) -> list[str]:
    def one(peer: str) -> str:
        ratio = line.ratio(peer) if peer != OWN else None
        return f"{peer} {_short(line.median(peer))}" + (f" ({ratio:.2f})" if ratio is not None else "")

    return [
        f"{line.title} [{line.unit}]",
        "    " + ", ".join(one(peer) for peer in line.figures),
        *(f"    {note}" for note in line.notes),
        *(f"    bar {verdict}" for verdict in line.verdicts()),
    ]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(lines: Sequence[Line], where: dict[str, Any], options: argparse.Namespace, missing: Sequence[str]) -> None:
    """Print the result of a run as the options ask."""
    if options.json:
        told = {**where, "seconds": options.seconds, "repeat": options.repeat, "left out": list(missing)}
        print(json.dumps({**told, "lines": [line.as_json() for line in lines]}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in where.items()), end="; ")
    print(f"median of {options.repeat} times {options.seconds:g} s")
    if missing:
        print(f"left out, not installed: {', '.join(missing)}")
    if where["file system"] in IN_MEMORY:
        print("on a file system in memory: nothing is durable, and what waits for the disk means nothing")
    print("in brackets: pykesto's figure to the peer's, the median of the rounds\n")
    print(table(lines))
    verdicts = [verdict.met for line in lines for verdict in line.verdicts()]
    print(f"\nbars: {verdicts.count(True)} met, {verdicts.count(False)} missed, {verdicts.count(None)} not measured")


def say(text: str) -> None:
    """Progress, for who watches."""
    print(text, file=sys.stderr, flush=True)
