"""The demo: many processes on one database, kills in the midst, real data.

Four processes import this machine's Debian package index into one database, open in all of them at once. Then workers
run transactions on it while one after another is killed. At the end a fresh process recovers and verifies everything.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykesto

from .index import NoIndex, paragraphs, read_index
from .progress import Bar, Tallies, wait_for
from .verify import Found, verify
from .work import count_sections, import_packages, link_packages, run_worker

IMPORTERS = 4
KILL_EVERY_S = 1.0
CHOSEN = 5000  # packages that the workers change: few enough to meet one another


class Failed(Exception):
    """The demo can't go on."""


def number(kind: type[int] | type[float], least: float) -> Callable[[str], float]:
    """Reads an argument that is a number, not less than `least`."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {'whole ' if kind is int else ''}number") from None
        if not least <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not from {least} on")
        return value

    return read


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--seconds", type=number(float, 0.5), default=10.0, help="how long workers run (10)")
    parser.add_argument("--workers", type=number(int, 1), default=4, help="how many at a time (4)")
    parser.add_argument(
        "--rows",
        type=number(int, 10),
        default=None,
        help="import at most so many packages (all)",
    )
    parser.add_argument("--input", type=Path, help="a package index to read instead of this machine's")
    parser.add_argument("--path", type=Path, help="make the database here, and keep it (a temporary directory)")
    parser.add_argument("--seed", type=int, default=None, help="of the workers' choices")
    return parser.parse_args(argv)


class Demo:
    """One run."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options = options
        self.directory = directory
        self.path = options.path or directory / "packages.kesto"
        self.spawn = multiprocessing.get_context("spawn")
        self.random = random.Random(options.seed)
        self.acknowledged: list[Path] = []

    def run(self) -> Found:
        options = self.options
        records = paragraphs(read_index(options.input), options.rows)
        if len(records) < 2:
            raise Failed("the package index holds no records")
        print(f"{len(records):,} packages, {sum(map(len, records)) / 1e6:.1f} MB; database {self.path}")
        self._import(records)
        ids = self._ids()
        self._link(ids)
        with pykesto.open(self.path) as db:
            print(f"counted   {count_sections(db):>7,} sections")
            done = (
                db.checkpoint()
            )  # happens by itself too, but workers that start now begin with little journal to read
            print(f"checkpoint at version {done.version} in {done.took_s:.1f} s")
        self._work(self.random.sample(list(ids.values()), min(CHOSEN, len(ids))))
        return self._verify(len(records))

    def _all(self, title: str, items: list[Any], target: Any, *extra: Any) -> None:
        """Give each of the importers its share of the items, and wait for all."""
        tallies = Tallies(IMPORTERS)
        bar = Bar(title, len(items), unit="packages")
        processes = []
        for i in range(IMPORTERS):
            own = [self.directory / f"ids-{i}"] if target is import_packages else list(extra)
            args = (self.path, items[i::IMPORTERS], *own, tallies.of(i))
            processes.append(self.spawn.Process(target=target, args=args))
        for process in processes:
            process.start()
        failed = wait_for(processes, lambda: bar.show(tallies.total("done")))
        bar.end(tallies.total("done"), f"by {IMPORTERS} processes, {tallies.total('commits'):,} commits")
        if failed:
            raise Failed(f"{title}: {len(failed)} of {IMPORTERS} processes failed, with exit codes {failed}")

    def _import(self, records: list[str]) -> None:
        self._all("imported", records, import_packages)

    def _link(self, ids: dict[str, uuid.UUID]) -> None:
        self._all("linked", list(ids), link_packages, ids)

    def _ids(self) -> dict[str, uuid.UUID]:
        lines = (
            line.split() for i in range(IMPORTERS) for line in (self.directory / f"ids-{i}").read_text().splitlines()
        )
        return {name: uuid.UUID(k_id) for name, k_id in lines}

    def _work(self, ids: list[uuid.UUID]) -> None:
        """Run the workers, and kill one every second."""
        options = self.options
        lives = options.workers + int(options.seconds / KILL_EVERY_S) + 1
        tallies = Tallies(lives)
        bar = Bar("worked", round(options.seconds), unit="seconds", rated=False)
        workers = [self._start_worker(n, ids, tallies) for n in range(options.workers)]
        started, killed = len(workers), 0
        end = bar.began + options.seconds
        next_kill = bar.began + KILL_EVERY_S
        while (now := time.monotonic()) < end:
            if now >= next_kill:
                victim = self.random.randrange(len(workers))
                workers[victim].kill()
                workers[victim].join()
                workers[victim] = self._start_worker(started, ids, tallies)
                started, killed, next_kill = started + 1, killed + 1, next_kill + KILL_EVERY_S
            workers[0].join(0.1)
            self._require_alive(workers)
            bar.show(int(now - bar.began), f"{tallies.total('commits'):,} commits, {killed} killed")
        for worker in workers:  # all at once, in the midst: what follows is a recovery
            worker.kill()
        for worker in workers:
            worker.join()
        took_s = time.monotonic() - bar.began
        commits, conflicts = tallies.total("commits"), tallies.total("conflicts")
        bar.end(
            round(took_s), f"by {options.workers} workers; {killed} killed one by one, the last {len(workers)} together"
        )
        print(
            f"          {commits:,} commits acknowledged, {commits / took_s:,.0f} commits/s; "
            f"{conflicts:,} conflicts retried; "
            f"{tallies.total('reads'):,} objects read; {tallies.total('checks'):,} sections found in agreement"
        )

    def _start_worker(self, n: int, ids: list[uuid.UUID], tallies: Tallies) -> Any:
        acknowledged = self.directory / f"acknowledged-{n}"
        acknowledged.touch()
        self.acknowledged.append(acknowledged)
        args = (self.path, n, ids, acknowledged, tallies.of(n), self.random.randrange(1 << 32))
        worker = self.spawn.Process(target=run_worker, args=args)
        worker.start()
        return worker

    def _require_alive(self, workers: list[Any]) -> None:
        for worker in workers:
            if worker.exitcode is not None:
                raise Failed(f"a worker ended by itself, with exit code {worker.exitcode}")

    def _verify(self, imported: int) -> Found:
        answers = self.spawn.SimpleQueue()
        process = self.spawn.Process(target=verify, args=(self.path, self.acknowledged, imported, answers))
        process.start()
        while process.is_alive() and answers.empty():
            process.join(0.1)
        if answers.empty():
            raise Failed(f"the verification ended with exit code {process.exitcode}")
        found: Found = answers.get()
        process.join()
        print(
            f"recovered in {found.recovery_s * 1000:.0f} ms: {found.records:,} commits read from the journal, "
            f"{found.discarded} bytes of a torn tail discarded"
        )
        print(
            f"verified  {found.packages:,} packages, {found.logged:,} logged commits of which "
            f"{found.acknowledged:,} had been acknowledged, {found.queries} indexed queries against scans"
        )
        return found


def main(argv: list[str]) -> int:
    options = arguments(argv)
    if options.path is not None and options.path.exists() and any(options.path.iterdir()):
        print(f"demo: --path {options.path} is not empty; give a new directory", file=sys.stderr)
        return 2
    directory = Path(tempfile.mkdtemp(prefix="pykesto-demo."))
    demo = Demo(options, directory)
    try:
        found = demo.run()
    except (Failed, NoIndex, pykesto.Error) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        shutil.rmtree(directory, ignore_errors=True)
    for problem in found.problems[:20]:
        print(f"demo: {problem}", file=sys.stderr)
    if found.problems:
        print(f"demo: {len(found.problems)} problems", file=sys.stderr)
        return 1
    print("demo: ok")
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main(sys.argv[1:]))
