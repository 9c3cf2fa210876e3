"""The peers of benchmarks/driver.py: each stores and finds the same rows, in loops that are as alike as can be.

Nobody syncs: what is measured is the work of the databases and of their bindings, not of the disk. Those that have
transactions put all rows in one.
"""

from __future__ import annotations

import dbm
import importlib
import shlex
import sqlite3
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pykesto import tc

from .measuring import Failed

Row = dict[bytes, bytes]
STEP = 7919  # a prime: stepping by it visits all rows, far from their order
GROUPS = 10  # rows of a kind
RANGE = 50  # rows of a range
LIMIT = 10  # the first so many rows, of a range so many times as wide


class Missing(Exception):
    """A peer can't be had here; says what it lacks."""


@dataclass(frozen=True, slots=True)
class Work:
    """What all peers get: the rows of a shape, and how many queries to ask."""

    shape: str  # "small" or "wide"
    count: int
    queries: int

    def rows(self) -> list[tuple[bytes, Row]]:
        """Key and columns of each; the C program makes the same."""
        row = self._wide if self.shape == "wide" else self._small
        return [(b"%08d" % number, row(number)) for number in range(self.count)]

    @staticmethod
    def _wide(number: int) -> Row:
        return {b"column%d" % column: b"%0100d" % (number * 10 + column) for column in range(10)}

    @staticmethod
    def _small(number: int) -> Row:
        return {b"name": b"name %d" % number, b"kind": b"kind %d" % (number // GROUPS), b"size": b"%d" % number}

    @property
    def first(self) -> bytes:
        """The column that is looked at in every row that is read."""
        return b"column0" if self.shape == "wide" else b"name"

    def keys(self) -> list[bytes]:
        return [b"%08d" % (number * STEP % self.count) for number in range(self.count)]

    def kinds(self) -> list[str]:
        return [f"kind {number * STEP % (self.count // GROUPS)}" for number in range(self.queries)]

    def ranges(self, width: int) -> list[tuple[int, int]]:
        lows = [number * STEP % (self.count - width) for number in range(self.queries)]
        return [(low, low + width - 1) for low in lows]


@dataclass(frozen=True, slots=True)
class Measured:
    """The seconds that it took, and the answer, the same for all."""

    seconds: float
    answer: int


Results = dict[str, Measured]


def timed(call: Callable[[], int]) -> Measured:
    began = time.perf_counter()
    answer = call()
    return Measured(time.perf_counter() - began, answer)


# --- C -------------------------------------------------------------------------------------------------------------


class Program:
    """benchmarks/driver.c; `quiet` is linked as our driver is: to the archive, without the library's yields."""

    def __init__(self, directory: Path, *, quiet: bool) -> None:
        self.path = directory / ("driver_quiet" if quiet else "driver")
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        library = ["-ltokyocabinet"]
        if quiet:
            library = [_archive(compiler), "-DNO_YIELD", "-Wl,--wrap=sched_yield", "-l:libz.so.1", "-l:libbz2.so.1.0"]
        source = Path(__file__).with_name("driver.c")
        command = [*compiler, "-O2", "-o", str(self.path), str(source), *library, "-lpthread", "-lm"]
        try:
            subprocess.run(command, capture_output=True, text=True, check=True)
        except OSError as error:
            raise Missing(str(error)) from error
        except subprocess.CalledProcessError as error:
            raise Missing(f"{shlex.join(command)}: {error.stderr.strip()[-300:]}") from error

    def __call__(self, work: Work, directory: Path) -> Results:
        command = [str(self.path), str(directory), work.shape, str(work.count), str(work.queries)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(done.stderr.strip() or f"{self.path.name} ended with {done.returncode}")
        lines = (line.split() for line in done.stdout.splitlines())
        return {name: Measured(float(seconds), int(answer)) for name, seconds, answer in lines}


def _archive(compiler: list[str]) -> str:
    found = subprocess.run(
        [*compiler, "-print-file-name=libtokyocabinet.a"], capture_output=True, text=True, check=True
    )
    if not Path(found.stdout.strip()).is_absolute():
        raise Missing("there is no libtokyocabinet.a")
    return found.stdout.strip()


# --- Python --------------------------------------------------------------------------------------------------------


def driver(work: Work, directory: Path) -> Results:
    """pykesto.tc."""
    rows, keys, first = work.rows(), work.keys(), work.first
    results: Results = {}

    def put(table: tc.Table) -> int:
        for key, row in rows:
            table[key] = row
        table.close()
        return len(rows)

    def opened() -> tc.Table:
        return tc.Table(directory / "table.tct", "n", bnum=2 * work.count)

    results["put"] = timed(partial(put, opened()))
    with tc.Table(directory / "table.tct") as table:
        results["get"] = timed(lambda: sum([len(table[key][first]) for key in keys]))
        results["iterate"] = timed(lambda: sum([len(key) + len(row[first]) for key, row in table.items()]))
    if work.shape != "small":
        return results
    indexed = opened()
    indexed.create_index("kind", "lexical")
    indexed.create_index("size", "decimal")
    results["put_indexed"] = timed(partial(put, indexed))
    with tc.Table(directory / "table.tct") as table:
        query = table.query
        equal = (query.col("kind").equals(kind) for kind in work.kinds())
        results["equality"] = timed(lambda: sum([len(row[first]) for one in equal for row in one.rows()]))
        inside = (
            query.col("size").num_between(low, high).order_by("size", numeric=True) for low, high in work.ranges(RANGE)
        )
        results["range"] = timed(lambda: sum([len(row[first]) for one in inside for row in one.rows()]))
        limited = (
            query.col("size").num_between(low, high).order_by("size", numeric=True).limit(LIMIT)
            for low, high in work.ranges(RANGE * LIMIT)
        )
        results["limit"] = timed(lambda: sum([len(row[first]) for one in limited for row in one.rows()]))
    return results


class Keyed(Protocol):
    """A peer that is measured through calls. `put` stores all rows, durable or not, and leaves them to be read."""

    def __init__(self, directory: Path, first: bytes) -> None: ...
    def put(self, rows: list[tuple[bytes, Row]]) -> None: ...
    def get(self, key: bytes) -> Row: ...
    def items(self) -> Iterator[tuple[bytes, Row]]: ...
    def close(self) -> None: ...


# One that has indexes too has `index()`, which begins anew with an empty table and indexes of kind and of size, and
# then `equal(kind)` and `between(low, high, limit)`, which gives rows in the order of size; a negative limit is none.


def measure(kind: type[Keyed], work: Work, directory: Path) -> Results:
    peer: Any = kind(directory, work.first)
    rows, keys, first = work.rows(), work.keys(), work.first
    get, items = peer.get, peer.items

    def put() -> int:
        peer.put(rows)
        return len(rows)

    results = {"put": timed(put)}
    results["get"] = timed(lambda: sum([len(get(key)[first]) for key in keys]))
    results["iterate"] = timed(lambda: sum([len(key) + len(row[first]) for key, row in items()]))
    if work.shape == "small" and hasattr(peer, "index"):
        peer.index()
        results["put_indexed"] = timed(put)
        between, equal = peer.between, peer.equal
        kinds, inside, beginnings = work.kinds(), work.ranges(RANGE), work.ranges(RANGE * LIMIT)
        results["equality"] = timed(lambda: sum([len(row[first]) for kind in kinds for row in equal(kind)]))
        results["range"] = timed(
            lambda: sum([len(row[first]) for low, high in inside for row in between(low, high, -1)])
        )
        results["limit"] = timed(
            lambda: sum([len(row[first]) for low, high in beginnings for row in between(low, high, LIMIT)])
        )
    peer.close()
    return results


def codec() -> Any:
    return needed("msgpack")


def needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} can't be imported") from error


class Lmdb:
    """lmdb, rows packed with msgpack."""

    def __init__(self, directory: Path, first: bytes) -> None:
        self.pack, self.unpack = codec().packb, codec().unpackb
        self.environment = needed("lmdb").open(str(directory / "lmdb"), map_size=1 << 32, sync=False)

    def put(self, rows: list[tuple[bytes, Row]]) -> None:
        pack = self.pack
        with self.environment.begin(write=True) as transaction:
            put = transaction.put
            for key, row in rows:
                put(key, pack(row))
        self.reader = self.environment.begin()
        self.read = self.reader.get

    def get(self, key: bytes) -> Row:
        row: Row = self.unpack(self.read(key))
        return row

    def items(self) -> Iterator[tuple[bytes, Row]]:
        unpack = self.unpack
        return ((key, unpack(row)) for key, row in self.reader.cursor())

    def close(self) -> None:
        self.reader.abort()
        self.environment.close()


class Plyvel:
    """plyvel (LevelDB), rows packed with msgpack."""

    def __init__(self, directory: Path, first: bytes) -> None:
        self.pack, self.unpack = codec().packb, codec().unpackb
        self.db = needed("plyvel").DB(str(directory / "plyvel"), create_if_missing=True)

    def put(self, rows: list[tuple[bytes, Row]]) -> None:
        put, pack = self.db.put, self.pack
        for key, row in rows:
            put(key, pack(row))

    def get(self, key: bytes) -> Row:
        row: Row = self.unpack(self.db.get(key))
        return row

    def items(self) -> Iterator[tuple[bytes, Row]]:
        unpack = self.unpack
        return ((key, unpack(row)) for key, row in self.db)

    def close(self) -> None:
        self.db.close()


class Dbm:
    """Python's dbm, whichever there is, rows packed with msgpack."""

    def __init__(self, directory: Path, first: bytes) -> None:
        self.pack, self.unpack = codec().packb, codec().unpackb
        self.db: Any = dbm.open(str(directory / "dbm"), "n")  # noqa: SIM115

    def put(self, rows: list[tuple[bytes, Row]]) -> None:
        pack = self.pack
        for key, row in rows:
            self.db[key] = pack(row)

    def get(self, key: bytes) -> Row:
        row: Row = self.unpack(self.db[key])
        return row

    def items(self) -> Iterator[tuple[bytes, Row]]:
        return ((key, self.get(key)) for key in self.db.keys())  # noqa: SIM118  not all dbm modules iterate

    def close(self) -> None:
        self.db.close()


class Sqlite:
    """Python's sqlite3, each column a column of its table; synchronous=OFF, one transaction for all puts."""

    def __init__(self, directory: Path, first: bytes) -> None:
        wide = first == b"column0"
        self.names = [f"column{number}" for number in range(10)] if wide else ["name", "kind", "size"]
        self.types = ["BLOB"] * 10 if wide else ["TEXT", "TEXT", "INTEGER"]
        self.keys = [name.encode() for name in self.names]
        self.connection = sqlite3.connect(directory / "sqlite", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=OFF")
        self.create()

    def create(self) -> None:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(self.names, self.types, strict=True))
        self.connection.execute(f"CREATE TABLE rows (key BLOB PRIMARY KEY, {columns}) WITHOUT ROWID")

    def index(self) -> None:
        self.connection.execute("DROP TABLE rows")
        self.create()
        self.connection.execute("CREATE INDEX kinds ON rows (kind)")
        self.connection.execute("CREATE INDEX sizes ON rows (size)")

    def put(self, rows: list[tuple[bytes, Row]]) -> None:
        marks = ", ".join("?" * (len(self.names) + 1))
        self.connection.execute("BEGIN")
        if "TEXT" in self.types:
            stored = ((key, *map(bytes.decode, row.values())) for key, row in rows)
        else:
            stored = ((key, *row.values()) for key, row in rows)
        self.connection.executemany(f"INSERT INTO rows VALUES ({marks})", stored)
        self.connection.execute("COMMIT")

    def _rows(self, clause: str, operands: tuple[object, ...]) -> Iterator[Any]:
        keys = self.keys
        found = self.connection.execute(f"SELECT {', '.join(self.names)} FROM rows {clause}", operands)
        return (dict(zip(keys, row, strict=True)) for row in found)

    def get(self, key: bytes) -> Row:
        row: Row = next(self._rows("WHERE key = ?", (key,)))
        return row

    def items(self) -> Iterator[tuple[bytes, Row]]:
        keys = self.keys
        return (
            (row[0], dict(zip(keys, row[1:], strict=True))) for row in self.connection.execute("SELECT * FROM rows")
        )

    def equal(self, kind: str) -> Iterable[Row]:
        return self._rows("WHERE kind = ?", (kind,))

    def between(self, low: int, high: int, limit: int) -> Iterable[Row]:
        return self._rows("WHERE size BETWEEN ? AND ? ORDER BY size LIMIT ?", (low, high, limit))

    def close(self) -> None:
        self.connection.close()


KEYED: dict[str, type[Keyed]] = {"lmdb": Lmdb, "plyvel": Plyvel, "dbm": Dbm, "sqlite3": Sqlite}
