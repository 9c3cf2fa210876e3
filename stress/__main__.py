"""Processes on one database that are killed in the midst of commits; their history is checked meanwhile and afterwards.

Workers move money between accounts, race for unique names, and re-link a ring of objects, until they are killed. A
watcher checks snapshot after snapshot. At the end all are killed at once, and a fresh process recovers and verifies.
The seed decides what workers try and whom the kills meet; how processes meet one another is never the same twice.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pykesto

from .run import Failed, Run
from .verify import Found

PROBLEMS_SHOWN = 20


def number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    convert.__name__ = "number" if kind is float else "whole number"
    return convert


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stress", description=(__doc__ or "").partition("\n\n")[2])
    add = parser.add_argument
    add("--processes", type=number(int, 1, 500), default=4, metavar="N", help="workers at a time (4)")
    add("--seconds", type=number(float, 0.5, 1e6), default=10.0, metavar="S", help="how long they run (10)")
    add("--seed", type=number(int, 0, 2**63), metavar="N", help="of what is tried and who is killed (a random one)")
    add("--durability", choices=["full", "process"], default="full", help="of the commits (full)")
    add("--isolation", choices=["serializable", "snapshot"], default="serializable", help="(serializable)")
    kill = "mean seconds between two kills, 0 for none before the end (1)"
    add("--kill", type=number(float, 0, 1e6), default=1.0, metavar="S", help=kill)
    add("--path", type=Path, help="a new directory for the database, which is kept (a temporary one)")
    add("--json", action="store_true", help="print one JSON object at the end, and nothing else")
    return parser.parse_args(argv)


def report(run: Run, found: Found, seed: int, where: str) -> None:
    """Tell people how it went."""
    options, each = run.options, ", ".join(f"{name} {count:,}" for name, count in found.workloads.items())
    print(
        f"seed {seed}, {options.processes} processes, {options.seconds:g} s, {options.durability}, {options.isolation}"
    )
    print(f"{found.commits:,} commits ({each}), {found.acknowledged:,} of them acknowledged; {found.refused:,} refused")
    print(f"{found.conflicts:,} conflicts retried; {run.snapshots:,} snapshots watched; {run.killed} killed one by one")
    torn = f"{found.recovered_records:,} records read, {found.discarded_bytes} bytes of a torn end discarded"
    print(f"recovered in {found.recovery_ms:.0f} ms: {torn}")
    for problem in found.problems[:PROBLEMS_SHOWN]:
        print(f"stress: {problem}", file=sys.stderr)
    if found.problems:
        print(f"stress: {len(found.problems)} problems; seed {seed}; {where}", file=sys.stderr)
    else:
        print(f"stress: ok{'; ' + where if where else ''}")


def main(argv: list[str]) -> int:
    options = arguments(argv)
    if (
        options.path is not None
        and options.path.exists()
        and (not options.path.is_dir() or any(options.path.iterdir()))
    ):
        print(f"stress: --path {options.path} is not empty; give a new directory", file=sys.stderr)
        return 2
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    try:
        directory = options.path or Path(tempfile.mkdtemp(prefix="pykesto-stress."))
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        print(f"stress: can't make {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    run, found = Run(options, directory, seed), None
    try:
        found = run.run()
    except (Failed, pykesto.Error, KeyboardInterrupt) as error:
        found = Found(problems=[*run.problems, str(error) or "interrupted"])
    finally:
        run.end()
        keep = options.path is not None or found is None or bool(found.problems)
        if not keep:
            shutil.rmtree(directory)
    where = f"the database is kept in {directory}" if keep else ""
    if options.json:
        chosen = {name: value for name, value in vars(options).items() if name not in ("path", "json")} | {"seed": seed}
        counts = {"killed": run.killed, "snapshots": run.snapshots, "path": str(directory) if keep else None}
        print(json.dumps({**chosen, **counts, **vars(found)}, indent=2))
    else:
        report(run, found, seed, where)
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
