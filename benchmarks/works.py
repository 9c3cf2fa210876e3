"""What is measured: a function for each row of the table, and the generator functions that its workers run.

A database of some rows (see `peers`) is made once for each peer, and copied for each measurement. What a worker wrote
is looked for afterwards, by a process that opens the database anew; what it read is checked now and then on the way.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pykesto.store import Durability

from .measuring import Bar, Failed, Line, figures, take_turns
from .measuring import say as progress
from .peers import BATCH, COLUMNS, PEERS, Get, Row, cell, count_of, make_row, whole
from .processes import Here, Job, Measured, Rounds, Worker, run_together, say

COUNTERS = 1000
FIRST_KEY, KEYS_EACH = 10**9, 10**7  # of the rows that workers insert
RING = BATCH  # so many different rows are inserted, again and again: none is made while it is measured
READS_IN_A_SESSION = 1000
WARM_S = 1.0
CHECKED = 64  # each so many reads the whole row is checked
DRAWS = 1 << 16  # keys of YCSB, drawn beforehand
ZIPF = 0.99
WRITERS_BESIDE_A_READER = 2
COMMITTERS_BESIDE_CHECKPOINTS = 2
FILES_MB_MAX = 1024  # beside a reader that holds a snapshot: the lease is half of it


# What workers do. Each prepares, yields once, then yields after each operation how many it was.


def insert(here: Here) -> Rounds:
    ring = [make_row(number) for number in range(RING)]
    first = FIRST_KEY + here.process * KEYS_EACH
    yield 0
    for step in itertools.count():
        here.peer.put(first + step, ring[step % RING])
        here.done["inserted"] = step + 1
        yield 1


def load(here: Here) -> Rounds:
    ring = [make_row(number) for number in range(RING)]
    first = FIRST_KEY + here.process * KEYS_EACH
    yield 0
    for step in itertools.count(0, RING):
        here.peer.put_many((first + step + number, row) for number, row in enumerate(ring))
        here.done["inserted"] = step + RING
        yield RING


def read_each(here: Here) -> Rounds:
    """Each read a session, or transaction, of its own."""
    get, keys = here.peer.get, _shuffled(here)
    _warm(here)
    yield 0
    for number, key in enumerate(keys):
        row = get(key)
        if number % CHECKED == 0:
            _require_whole(key, row)
        yield 1


def read_together(here: Here) -> Rounds:
    """Many reads in one session; none reads a row twice."""
    keys = _shuffled(here)
    _warm(here)
    yield 0
    while True:
        with here.peer.snapshot() as get:
            for number, key in enumerate(itertools.islice(keys, READS_IN_A_SESSION)):
                row = get(key)
                if number % CHECKED == 0:
                    _require_whole(key, row)
                yield 1


def ycsb(here: Here) -> Rounds:
    """A share of the operations change one column: after reading the row in the same transaction, or blindly."""
    peer, chance = here.peer, here.chance
    keys = zipfian(here.rows, DRAWS, chance)
    writes = [chance.random() < here.arguments["writes"] for _ in range(DRAWS)]
    columns = chance.choices(range(len(COLUMNS)), k=DRAWS)
    reads_first, advanced = here.arguments["reads_first"], 0
    yield 0
    for step, (key, write, column) in enumerate(itertools.cycle(list(zip(keys, writes, columns, strict=True)))):
        if not write:
            row = peer.get(key)
        elif reads_first:
            row = peer.advance(key, column)
            advanced += 1
            here.done["advanced"] = advanced
        else:
            peer.update(key, column, cell(key, column, step))
            yield 1
            continue
        if step % CHECKED == 0:
            _require_whole(key, row)
        yield 1


def replace(here: Here) -> Rounds:
    """Write rows again, whole."""
    keys = _shuffled(here)
    rows = {key: {name: cell(key, n, here.process + 1) for n, name in enumerate(COLUMNS)} for key in range(here.rows)}
    yield 0
    for key in keys:
        here.peer.replace(key, rows[key])
        yield 1


def hold(here: Here) -> Rounds:
    """Keep one snapshot for all the time; at its end it must show what it showed at first."""
    with here.peer.snapshot() as get:
        keys = [here.chance.randrange(here.rows) for _ in range(CHECKED)]
        rows = [get(key) for key in keys]
        yield 0
        try:
            while True:
                time.sleep(0.01)
                yield 1
        finally:
            if [get(key) for key in keys] != rows:
                raise Failed(f"{here.peer.NAME}: a snapshot changed")


def increment(here: Here) -> Rounds:
    counters, chance = here.arguments["counters"], here.chance
    yield 0
    for step in itertools.count(1):
        here.peer.increment(chance.randrange(counters))
        here.done["incremented"] = step
        yield 1


def checkpoint(here: Here) -> Rounds:
    yield 0
    for step in itertools.count(1):
        here.peer.checkpoint()
        here.done["checkpoints"] = step
        yield 1


def _shuffled(here: Here) -> Iterator[int]:
    """All keys in a random order, again and again."""
    keys = list(range(here.rows))
    here.chance.shuffle(keys)
    return itertools.cycle(keys)


def _warm(here: Here) -> None:
    """Have the rows in whatever caches there are; a peer that takes long has some of them there."""
    until = time.monotonic() + WARM_S
    with here.peer.snapshot() as get:
        for key in range(here.rows):
            get(key)
            if time.monotonic() >= until:
                return


def _require_whole(key: int, row: Row) -> None:
    if not whole(key, row):
        raise Failed(f"row {key} is {row!r:.300}")


def zipfian(count: int, draws: int, chance: random.Random) -> list[int]:
    """Keys below `count`, the n-th most frequent drawn as often as 1/n**0.99, and the frequent ones spread."""
    order = list(range(count))
    random.Random(count).shuffle(order)  # the same in all processes: they meet at the same keys
    weights = list(itertools.accumulate(1 / number**ZIPF for number in range(1, count + 1)))
    return chance.choices(order, cum_weights=weights, k=draws)


# What is looked for afterwards, in a process of its own


def fill(pipe: Connection, name: str, place: Path, rows: int) -> None:
    peer = PEERS[name](place, "process")
    peer.create()
    for first in range(0, rows, BATCH):
        peer.put_many((key, make_row(key)) for key in range(first, min(first + BATCH, rows)))
    peer.make_counters(COUNTERS)
    peer.checkpoint()
    peer.close()
    say(pipe)


def check(pipe: Connection, name: str, place: Path, rows: int, measured: Measured) -> None:
    """All that workers were told to be committed is there, and nothing twice."""
    peer = PEERS[name](place, "full")
    inserted = measured.sum("inserted")
    _require(name, "rows", peer.count(), rows + inserted)
    for number, told in enumerate(measured.told):
        first = FIRST_KEY + number * KEYS_EACH
        for step in _some(told.done.get("inserted", 0)):
            _require(name, f"row {first + step}", peer.get(first + step), make_row(step % RING))
    _require(name, "the sum of the counters", sum(peer.counters()), measured.sum("incremented"))
    if advanced := measured.sum("advanced"):
        with peer.snapshot() as get:
            _require(name, "the sum of all changes", sum(_changes(key, get) for key in range(rows)), advanced)
    peer.close()
    say(pipe)


def _some(count: int) -> list[int]:
    """The first and the last of `count` steps, and some between."""
    return sorted({*range(0, count, max(1, count // 20)), *range(max(0, count - 1), count)})


def _changes(key: int, get: Get) -> int:
    row = get(key)
    _require_whole(key, row)
    return sum(count_of(text) for text in row.values())


def _require(name: str, what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Failed(f"{name}: {what}: {found!r:.300}, and not {expected!r:.300}")


def open_and_read(pipe: Connection, name: str, place: Path, key: int) -> None:
    """Tell how many milliseconds it takes to open, and to read a row."""
    import_all(name)
    began = time.perf_counter()
    peer = PEERS[name](place, "full")
    row = peer.get(key)
    took_ms = 1000 * (time.perf_counter() - began)
    _require_whole(key, row)
    peer.close()
    say(pipe, took_ms)


def import_all(name: str) -> None:
    """What a program has imported before it opens its database: found by opening one that is empty."""
    with tempfile.TemporaryDirectory() as directory:
        peer = PEERS[name](Path(directory), "process")
        peer.close()


def insert_until_killed(pipe: Connection, name: str, place: Path, first: int) -> None:
    peer = PEERS[name](place, "process")
    row = make_row(0)
    for step in itertools.count():
        peer.put(first + step, row)
        if step == 0:
            say(pipe)


# One run


@dataclass(slots=True)
class Run:
    """The options of a run, where its files are, and what failed in it."""

    directory: Path
    peers: Sequence[str]
    seconds: float = 1.0
    repeats: int = 3
    processes: Sequence[int] | None = None
    rows: int = 20_000
    rows_to_open: int = 1_000_000
    failures: list[str] = field(default_factory=list)

    def counts(self, *usual: int) -> Sequence[int]:
        """Numbers of processes: those that are asked for, or the usual ones. Only these have bars."""
        return usual if self.processes is None else self.processes

    def names(self, *wanted: str, processes: int = 1) -> list[str]:
        """Of these peers, those that there are; ZODB's server where several processes are to share it."""
        served = ["zeo" if name == "zodb" and processes > 1 else name for name in wanted]
        return [name for name in served if name in self.peers]

    def template(self, name: str, rows: int) -> Path:
        """A database that is filled, closed and quiet; made when it is first asked for."""
        kind = PEERS[name].FILES
        place = self.directory / f"{kind}-{rows}"
        if not place.exists():
            progress(f"    filling {kind} with {rows:,} rows")
            making = place.with_name(place.name + ".making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            run_alone(fill, kind, making, rows, patience_s=3600.0)
            making.rename(place)
        return place

    @contextmanager
    def copy(self, name: str) -> Iterator[Path]:
        """A database of its own for one measurement, and whatever serves it."""
        place = self.directory / "measured"
        shutil.copytree(self.template(name, self.rows), place)
        for path in place.rglob("*"):  # what is copied is not to be written while something is measured
            sync_file(path)
        try:
            with PEERS[name].serving(place):
                yield place
        finally:
            shutil.rmtree(place)

    def rounds(self, title: str, names: Sequence[str], measure: Callable[[str], Any]) -> dict[str, list[Any]]:
        """`measure(peer)` in turns. A peer that failed is left out of this line, and the run goes on."""
        broken: set[str] = set()

        def guarded(name: str) -> Any:
            if name in broken:
                return None
            progress(f"{title}: {name}")
            try:
                return measure(name)
            except Failed as error:
                broken.add(name)
                self.failures.append(f"{title}: {name}: {error}")
                progress(self.failures[-1])
                return None

        results = take_turns(names, self.repeats, guarded)
        return {name: found for name, found in results.items() if name not in broken}

    def measure(
        self, name: str, durability: Durability, jobs: Sequence[Job], *, watch: Watch | None = None
    ) -> Measured:
        with self.copy(name) as place:
            with watch.watching(place) if watch else nullcontext():
                measured = run_together(name, place, durability, jobs, rows=self.rows, seconds=self.seconds)
            run_alone(check, name, place, self.rows, measured)
            return measured

    def workers(
        self, title: str, names: Sequence[str], durability: Durability, jobs: Sequence[Job]
    ) -> dict[str, list[Measured]]:
        return self.rounds(title, names, lambda name: self.measure(name, durability, jobs))


def run_alone(target: Callable[..., None], *arguments: Any, patience_s: float = 300.0) -> Any:
    """Run one function in a process of its own; what it says."""
    worker = Worker(target, *arguments)
    try:
        return worker.hear(patience_s)
    finally:
        worker.kill()


def sync_file(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


class Watch:
    """How much disk a directory took at most."""

    def __init__(self) -> None:
        self.peak_mb = 0.0

    @contextmanager
    def watching(self, place: Path) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._look, args=(place, ended))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _look(self, place: Path, ended: threading.Event) -> None:
        while not ended.wait(0.1):
            self.peak_mb = max(self.peak_mb, disk_mb(place))


def disk_mb(place: Path) -> float:
    total = 0
    for path in place.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:  # a journal segment, or a log, that went just now
            continue
    return total / 1e6


def speeds(title: str, rounds: dict[str, list[Measured]], bars: Sequence[Bar]) -> Line:
    """A line of rates, with the waits and the shares beside them."""
    return Line(
        title, figures(rounds, lambda one: one.rate), bars=tuple(bars), notes=_waits(rounds), extra=_extra(rounds)
    )


def _middle(found: Sequence[Measured], name: str) -> float:
    values = sorted(getattr(one, name) for one in found)
    return float(values[len(values) // 2])


def _waits(rounds: dict[str, list[Measured]]) -> tuple[str, ...]:
    def one(name: str) -> str:
        p50, p99, longest, unfairness = (
            _middle(rounds[name], what) for what in ("p50_ms", "p99_ms", "max_ms", "unfairness")
        )
        share = f", busiest/laziest {unfairness:.3g}" if len(rounds[name][0].told) > 1 else ""
        return f"ms p50/p99/max of {name}: {p50:.3g} / {p99:.3g} / {longest:.3g}{share}"

    return tuple(one(name) for name in rounds)


def _extra(rounds: dict[str, list[Measured]]) -> dict[str, Any]:
    names = ("p50_ms", "p99_ms", "max_ms", "unfairness")
    return {what: {name: [getattr(one, what) for one in found] for name, found in rounds.items()} for what in names}


def in_processes(count: int) -> str:
    return f"{count} process" + ("es" if count > 1 else "")


# The rows of the table


def durable_commits(run: Run) -> Iterator[Line]:
    limits = {1: 1.0, 8: 3.0, 16: 4.5}
    for processes in run.counts(*limits):
        title = f"durable one-row commits, {in_processes(processes)}"
        names = run.names("pykesto", "sqlite3", "lmdb", "zodb", processes=processes)
        rounds = run.workers(title, names, "full", [Job(insert, {})] * processes)
        yield speeds(title, rounds, [Bar(limits[processes])] if processes in limits else [])
        if processes == 16:
            bars = (Bar(0.1, at_most=True),)
            yield Line(f"{title}: p99", figures(rounds, lambda one: one.p99_ms), "ms", bars)


def process_commits(run: Run) -> Iterator[Line]:
    for processes in run.counts(1, 4):
        title = f"one-row commits that survive kill -9, {in_processes(processes)}"
        names = run.names("pykesto", "sqlite3", "lmdb nosync", "lmdb writemap", "zodb", processes=processes)
        yield speeds(title, run.workers(title, names, "process", [Job(insert, {})] * processes), [Bar(2.0)])


def point_reads(run: Run) -> Iterator[Line]:
    for processes in run.counts(1, 4):
        for how, work in (("each a session", read_each), (f"{READS_IN_A_SESSION} in a session", read_together)):
            title = f"point reads, {how}, {in_processes(processes)}"
            names = run.names("pykesto", "sqlite3", "lmdb", "zodb", processes=processes)
            rounds = run.workers(title, names, "full", [Job(work, {})] * processes)
            yield speeds(title, rounds, [Bar(2.0), Bar(0.8, "lmdb")])


def ycsb_mixes(run: Run) -> Iterator[Line]:
    for processes in run.counts(4):
        for mix, writes, reads_first, limit in (("B", 0.05, False, 1.8), ("F", 0.5, True, 1.3)):
            for durability, fast in (("full", "lmdb"), ("process", "lmdb nosync")):
                title = f"YCSB {mix}, durability {durability}, {in_processes(processes)}"
                job = Job(ycsb, {"writes": writes, "reads_first": reads_first})
                names = run.names("pykesto", "sqlite3", fast, "zodb", processes=processes)
                rounds = run.workers(title, names, durability, [job] * processes)  # type: ignore[arg-type]
                yield speeds(title, rounds, [Bar(limit)])


def writers_beside_a_reader(run: Run) -> Iterator[Line]:
    title = f"{WRITERS_BESIDE_A_READER} writers, while a reader holds a snapshot"
    writers = [Job(replace, {})] * WRITERS_BESIDE_A_READER
    order = itertools.cycle((False, True))

    def measure(name: str) -> dict[bool, tuple[Measured, float]]:
        found = {}
        reader_first = next(order)
        for reader in (reader_first, not reader_first):
            watch = Watch()
            jobs = [*writers, Job(hold, {}, counted=False)] if reader else writers
            found[reader] = (run.measure(name, "process", jobs, watch=watch), watch.peak_mb)
        return found

    rounds = run.rounds(title, run.names("pykesto", "sqlite3", "lmdb nosync"), measure)
    alone = figures(rounds, lambda one: one[False][0].rate)
    beside = figures(rounds, lambda one: one[True][0].rate)
    kept = {name: [own / other for own, other in zip(beside[name], alone[name], strict=True)] for name in rounds}
    notes = tuple(
        f"{name}: {max(alone[name]):,.0f} a second without, {max(beside[name]):,.0f} with it" for name in rounds
    )
    yield Line(title, kept, "share of the rate without it", (Bar(0.95, None),), notes)
    peaks = tuple(f"{name}: {max(one[False][1] for one in found):,.0f} without it" for name, found in rounds.items())
    bars = (Bar(FILES_MB_MAX, None, at_most=True),)
    yield Line("files beside that reader, at most", figures(rounds, lambda one: one[True][1]), "MB", bars, peaks)


def contended_counters(run: Run) -> Iterator[Line]:
    for processes in run.counts(8):
        for counters in (1, 10, 1000):
            title = f"contended counters: {counters}, {in_processes(processes)}"
            names = run.names("pykesto", "sqlite3", "lmdb", "zodb", processes=processes)
            jobs = [Job(increment, {"counters": counters})] * processes
            rounds = run.workers(title, names, "full", jobs)
            yield speeds(title, rounds, [Bar(1.0)])
            shares = figures(rounds, lambda one: one.unfairness)
            bars = (Bar(2.0, None, at_most=True),)
            yield Line(f"{title}: share of the busiest", shares, unit="x the laziest", bars=bars)


def opening(run: Run) -> Iterator[Line]:
    names = run.names("pykesto", "sqlite3", "lmdb", "zodb")
    many = f"{run.rows_to_open:,} rows"
    firsts = itertools.count(FIRST_KEY, KEYS_EACH)

    def warm(name: str) -> float:
        place = run.template(name, run.rows_to_open)
        run_alone(open_and_read, name, place, run.rows_to_open // 2)
        return float(run_alone(open_and_read, name, place, run.rows_to_open // 3))

    def killed(name: str) -> float:
        place = run.template(name, run.rows_to_open)
        worker = Worker(insert_until_killed, name, place, next(firsts))
        try:
            worker.hear()
            time.sleep(run.seconds)  # it commits all the time
        finally:
            worker.kill()
        return float(run_alone(open_and_read, name, place, run.rows_to_open // 3))

    for title, measure, limit in ((f"open {many}, warm", warm, 5.0), (f"open {many}, after kill -9", killed, 100.0)):
        rounds = run.rounds(title, names, measure)
        bars = (Bar(limit, None, at_most=True),)
        yield Line(title, figures(rounds, float), unit="ms, a row read", bars=bars)


def bulk_load(run: Run) -> Iterator[Line]:
    title = f"bulk load, {BATCH} rows a commit"
    rounds = run.workers(title, run.names("pykesto", "sqlite3", "lmdb", "zodb"), "full", [Job(load, {})])
    yield speeds(title, rounds, [Bar(2.0)])


def commits_beside_checkpoints(run: Run) -> Iterator[Line]:
    title = f"p99 of durable commits, {in_processes(COMMITTERS_BESIDE_CHECKPOINTS)}, while checkpoints run all the time"
    committers = [Job(insert, {})] * COMMITTERS_BESIDE_CHECKPOINTS
    order = itertools.cycle((False, True))

    def measure(name: str) -> dict[bool, Measured]:
        found = {}
        checkpoints_first = next(order)
        for checkpoints in (checkpoints_first, not checkpoints_first):
            jobs = [*committers, Job(checkpoint, {}, counted=False)] if checkpoints else committers
            found[checkpoints] = run.measure(name, "full", jobs)
        return found

    rounds = run.rounds(title, run.names("pykesto", "sqlite3"), measure)
    ratios = figures(rounds, lambda one: one[True].p99_ms / one[False].p99_ms)
    notes = []
    for name, found in rounds.items():
        without, beside = (_middle([one[checkpoints] for one in found], "p99_ms") for checkpoints in (False, True))
        count = sum(one[True].sum("checkpoints") for one in found) / len(found)
        notes.append(f"{name}: {without:.3g} ms without, {beside:.3g} ms beside {count:,.0f} checkpoints")
    yield Line(title, ratios, unit="x the p99 without", bars=(Bar(3.0, None, at_most=True),), notes=tuple(notes))


WORKS: dict[str, Callable[[Run], Iterator[Line]]] = {
    "durable": durable_commits,
    "process": process_commits,
    "reads": point_reads,
    "ycsb": ycsb_mixes,
    "reader": writers_beside_a_reader,
    "counters": contended_counters,
    "load": bulk_load,
    "checkpoints": commits_beside_checkpoints,
    "open": opening,
}
