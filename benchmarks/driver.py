"""The driver beside the same loops in C, and beside other stores: put, get, iterate and query rows of bytes.

Tokyo Cabinet in C is a small program (benchmarks/driver.c), built here with the compiler that built Python, twice:
`C` is linked as the driver is, to the archive and without the library's yields; `C, shared` as any C program would be.
The peers take turns; what they answer is compared. Nobody syncs: the disk is not measured.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pykesto

from .driver_peers import KEYED, Missing, Program, Results, Work, driver, measure
from .measuring import OWN, Bar, Failed, Line, conditions, number, require_same, table, take_turns

TITLES = {
    "put": "put",
    "get": "get",
    "iterate": "iterate",
    "put_indexed": "put, two indexes",
    "equality": "equality, 10 rows",
    "range": "range, 50 rows in order",
    "limit": "first 10 of a range of 500",
}
QUERIES = ("equality", "range", "limit")
# At most 1.6 times what C takes for a put or get, 1.5 for an equality.
BARS = {"put": Bar(1 / 1.6, "C"), "get": Bar(1 / 1.6, "C"), "equality": Bar(1 / 1.5, "C")}
ITERATED = Bar(0.6, "C")
ITERATED_ENOUGH = Bar(400_000, None)  # small rows a second: then their ratio matters no more

Peer = Callable[[Work, Path], Results]


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.driver", description=__doc__)
    add = parser.add_argument
    add("--rows", type=number(int, 1000, 1e8), default=20_000, metavar="N", help="in each table (20000)")
    add("--queries", type=number(int, 1, 1e8), default=2_000, metavar="N", help="of each kind (2000)")
    add("--repeat", type=number(int, 1, 1000), default=5, metavar="N", help="how often each is measured (5)")
    add("--only", nargs="+", metavar="PEER", help="measure only these peers (all)")
    add("--json", action="store_true", help="print one JSON object, with every single figure")
    return parser.parse_args(argv)


def peers(directory: Path, only: list[str] | None) -> dict[str, Peer]:
    """Those that can be had here; of the rest it is said why not."""
    makers: dict[str, Callable[[], Peer]] = {
        OWN: lambda: driver,
        "C": lambda: Program(directory, quiet=True),
        "C, shared": lambda: Program(directory, quiet=False),
        **{name: partial(partial, measure, kind) for name, kind in KEYED.items()},
    }
    found = {}
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as scratch:
        for name, make in makers.items():
            if only is None or name in only:
                try:
                    found[name] = make()
                    found[name](Work("small", 1000, 1), Path(scratch))
                except Missing as error:
                    found.pop(name, None)
                    print(f"left out: {name}: {error}", file=sys.stderr)
    return found


def measure_one(asked: dict[str, Peer], work: Work, name: str) -> Results:
    print(f"{work.shape} rows: {name}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as directory:
        return asked[name](work, Path(directory))


def lines_of(work: Work, rounds: dict[str, list[Results]]) -> list[Line]:
    """One for each thing that was measured, once all have answered alike."""
    lines = []
    for kind, title in TITLES.items():
        having = {name: [one[kind] for one in results] for name, results in rounds.items() if kind in results[0]}
        if not having:
            continue
        require_same(
            f"{work.shape} rows: {title}", {name: {one.answer for one in all_} for name, all_ in having.items()}
        )
        count = work.queries if kind in QUERIES else work.count
        rates = {name: [count / one.seconds for one in all_] for name, all_ in having.items()}
        lines.append(Line(f"{work.shape} rows: {title}", rates, bars=bars(work, kind, rates)))
    return lines


def bars(work: Work, kind: str, rates: dict[str, list[float]]) -> tuple[Bar, ...]:
    if kind != "iterate":
        return (BARS[kind],) if kind in BARS else ()
    enough = work.shape == "small" and "C" in rates and 0.6 * statistics.median(rates["C"]) > ITERATED_ENOUGH.limit
    return (ITERATED_ENOUGH,) if enough else (ITERATED,)


def main(argv: list[str]) -> int:
    options = arguments(argv)
    lines: list[Line] = []
    try:
        with tempfile.TemporaryDirectory(prefix="pykesto-bench.") as built:
            asked = peers(Path(built), options.only)
            where: dict[str, Any] = conditions(Path(built), sqlite3=sqlite3.sqlite_version)
            for shape in ("small", "wide"):
                work = Work(shape, options.rows, options.queries)
                lines += lines_of(work, take_turns(list(asked), options.repeat, partial(measure_one, asked, work)))
    except (Failed, pykesto.Error, OSError) as error:
        print(f"benchmarks.driver: {error}", file=sys.stderr)
        return 1
    where.update(rows=options.rows, queries=options.queries, repeat=options.repeat)
    if options.json:
        print(json.dumps({**where, "lines": [line.as_json() for line in lines]}, indent=2))
    else:
        print(", ".join(f"{name} {value}" for name, value in where.items()))
        print("medians; in brackets pykesto.tc's figure to the peer's, the median of the rounds\n")
        print(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
