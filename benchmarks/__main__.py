"""pykesto beside Python's sqlite3: commits and reads a second, measured in the same run, in turn, several times.

Each measurement has a fresh database of 10,000 rows and fresh processes. Shown is the median of the repeats. What the
databases answer is compared. Set TMPDIR to choose the disk: on a file system in memory nothing is durable.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pykesto

from .cells import CELLS, Cell, Failed, Measured, measure
from .peers import PEERS

Results = dict[Cell, dict[str, list[Measured]]]


def number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    convert.__name__ = "number" if kind is float else "whole number"
    return convert


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=number(float, 0.01, 3600), default=1.0, metavar="S", help="of each measurement (1)")
    add("--repeat", type=number(int, 1, 1000), default=3, metavar="N", help="how often each is made (3)")
    add("--json", action="store_true", help="print one JSON object, with every single rate")
    return parser.parse_args(argv)


def measure_all(options: argparse.Namespace) -> Results:
    """Each cell for each peer. Peers take turns, so that what else the machine does meets both."""
    results: Results = {cell: {name: [] for name in PEERS} for cell in CELLS}
    for repeat in range(options.repeat):
        for cell in CELLS:
            print(f"{repeat + 1} of {options.repeat}: {cell.title}, {cell.processes}", file=sys.stderr)
            names = list(PEERS) if repeat % 2 == 0 else list(PEERS)[::-1]
            measured = {name: measure_one(name, cell, options.seconds) for name in names}
            if len({repr(one.answer) for one in measured.values()}) != 1:
                raise Failed(f"{cell.title}: the answers of {', '.join(names)} differ")
            for name, one in measured.items():
                results[cell][name].append(one)
    return results


def measure_one(name: str, cell: Cell, seconds: float) -> Measured:
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory:
        return measure(name, cell, seconds, Path(directory))


def conditions() -> dict[str, str | int | None]:
    return {
        "pykesto": pykesto.__version__,
        "sqlite3": sqlite3.sqlite_version,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }


def print_table(results: Results, options: argparse.Namespace) -> None:
    print(", ".join(f"{name} {value}" for name, value in conditions().items()), end="; ")
    print(f"median of {options.repeat} times {options.seconds:g} s\n")
    print(f"{'':<44}{'a second':>19}{'':>7}{'longest wait, ms':>20}")
    print(f"{'':<34}{'processes':>10}{'pykesto':>10}{'sqlite3':>9}{'ratio':>7}{'pykesto':>11}{'sqlite3':>9}")
    for cell, by_peer in results.items():
        own, other = (statistics.median(one.rate for one in by_peer[name]) for name in ("pykesto", "sqlite3"))
        waits = (statistics.median(one.longest_ms for one in by_peer[name]) for name in ("pykesto", "sqlite3"))
        print(f"{cell.title:<34}{cell.processes:>10}{own:>10,.0f}{other:>9,.0f}{own / other:>7.2f}", end="")
        print("{:>11,.0f}{:>9,.0f}".format(*waits))
    print("\nratio: pykesto / sqlite3; below 1 pykesto is slower. longest wait: of any process, for one round")


def as_json(results: Results, options: argparse.Namespace) -> str:
    def one_cell(cell: Cell) -> dict[str, object]:
        rates = {name: [one.rate for one in measured] for name, measured in results[cell].items()}
        waits = {name: [one.longest_ms for one in measured] for name, measured in results[cell].items()}
        return {**asdict(cell), "rates": rates, "longest_ms": waits}

    cells = [one_cell(cell) for cell in results]
    return json.dumps({**conditions(), "seconds": options.seconds, "cells": cells}, indent=2)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    try:
        results = measure_all(options)
    except (Failed, pykesto.Error, OSError, sqlite3.Error) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(as_json(results, options))
    else:
        print_table(results, options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
