"""pykesto's engine beside sqlite3, LMDB and ZODB: commits, reads, contention, opening, loading.

Each measurement has a fresh copy of a database of --rows rows (ten columns of 100 characters) and fresh processes that
start together. Peers take turns. What they answer is checked. Works:

    durable      one-row commits that survive a power cut; 1, 8 and 16 processes
    process      one-row commits that survive kill -9; 1 and 4 processes
    reads        rows by their key, as dicts; 1 and 4 processes, each read a session, and many in one
    ycsb         YCSB B (95 % reads, 5 % updates) and F (half of it read-modify-write), zipfian; 4 processes
    reader       writers while a reader holds a snapshot, against those without it
    counters     1, 10 and 1000 counters, 8 processes
    load         1000 rows a commit
    checkpoints  the p99 of durable commits while checkpoints run all the time, against that without them
    open         a database of --rows-to-open rows, after a clean end and after kill -9
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from .measuring import IN_MEMORY, Line, conditions, file_system, number, parser, say, show, sync_us, table
from .peers import PEERS, missing
from .works import WORKS, Run


def arguments(argv: list[str]) -> argparse.Namespace:
    made = parser("engine", __doc__, WORKS)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    add = made.add_argument
    add("--peers", choices=list(PEERS), nargs="+", default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    processes = number(int, 1, 64)
    add(
        "--processes",
        type=processes,
        nargs="+",
        metavar="N",
        help="only lines of so many processes, where works differ",
    )
    rows = number(int, 1000, 10**8)
    add("--rows", type=rows, default=20_000, metavar="N", help="in the database (20,000)")
    add("--rows-to-open", type=rows, default=1_000_000, metavar="N", help="in that of the work open (1,000,000)")
    add("--directory", type=Path, metavar="DIR", help="where files go: on a real disk (a temporary directory)")
    return made.parse_args(argv)


def place_for_files(asked: Path | None) -> Path:
    """A directory on a disk: that for temporary files if it is, else another."""
    if asked is not None:
        return asked
    places = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path.cwd()]
    return next((place for place in places if place.is_dir() and file_system(place) not in IN_MEMORY), places[0])


def told(line: Line) -> Line:
    """The line, shown at once to who watches: a run may take long, or be broken off."""
    say(table([line]) + "\n")
    return line


def main(argv: list[str]) -> int:
    options = arguments(argv)
    absent = [name for name in missing() if name in options.peers]
    peers = [name for name in options.peers if name not in absent]
    with tempfile.TemporaryDirectory(prefix="pykesto-bench.", dir=place_for_files(options.directory)) as directory:
        run = Run(
            Path(directory),
            peers,
            seconds=options.seconds,
            repeats=options.repeat,
            processes=options.processes,
            rows=options.rows,
            rows_to_open=options.rows_to_open,
        )
        versions = {name: PEERS[name].version() for name in peers if name == PEERS[name].FILES and name != "pykesto"}
        where = conditions(run.directory, **versions)
        before = sync_us(run.directory)
        lines = [told(line) for work in options.only for line in WORKS[work](run) if line.figures]
        where["sync of 1 KB, us"] = f"{before} before, {sync_us(run.directory)} after"
    show(lines, where, options, absent)
    for failure in run.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if run.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
