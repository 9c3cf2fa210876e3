"""The databases that are measured: the same rows and transactions for each, as its own documents advise.

One table of rows, whole number -> ten columns of 100 characters, and one of counters. Every peer gives a row back as a
dict of str. A peer keeps its files in a directory of its own and is opened once in each process.

Durability "full" survives a power cut, "process" only the death of processes:

- pykesto: durability=...; serializable, conflicts are tried again by `run`
- sqlite3: WAL, synchronous=FULL or NORMAL, statements prepared once, a page cache of 64 MB and the file mapped,
  BEGIN IMMEDIATE, and a busy_timeout instead of errors
- lmdb: rows packed by msgpack; as it is for "full"; for "process" sync=False, without and with writemap
- zodb: a FileStorage, which one process may have; zeo: the same behind its server, for many. Both always sync.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pykesto
from pykesto.store import Durability

COLUMNS = tuple(f"field{number}" for number in range(10))
ATTEMPTS = 1_000_000  # a conflict is tried again until it succeeds
BUSY_S = 120.0
BATCH = 1000

Row = dict[str, str]
Get = Callable[[int], Row]

_FILLER = "".join(chr(97 + number * 7 % 26) for number in range(100))


def cell(key: int, column: int, count: int) -> str:
    """100 characters that tell where they belong, and how often they were changed."""
    return f"{key:012d}:{column:d}:{count:010d}:{_FILLER[:75]}"


def count_of(text: str) -> int:
    return int(text[15:25])


def make_row(key: int) -> Row:
    return {name: cell(key, column, 0) for column, name in enumerate(COLUMNS)}


def whole(key: int, row: Row) -> bool:
    """Whether this is the row of that key, with all that belongs into it, however often it was changed."""
    return tuple(row) == COLUMNS and all(
        text == cell(key, column, count_of(text)) for column, text in enumerate(row.values())
    )


class Peer(Protocol):
    """One process's handle of a database."""

    NAME: ClassVar[str]
    NEEDS: ClassVar[tuple[str, ...]]  # modules that must be installed
    FILES: ClassVar[str]  # peers of the same FILES can open each other's

    @staticmethod
    def version() -> str: ...

    @classmethod
    def serving(cls, place: Path) -> AbstractContextManager[object]:
        """Run what it needs beside the processes that use it."""
        ...

    def __init__(self, place: Path, durability: Durability) -> None: ...

    def create(self) -> None:
        """Make the tables."""
        ...

    # One transaction each

    def put(self, key: int, row: Row) -> None:
        """Write a row that is not there."""
        ...

    def put_many(self, rows: Iterable[tuple[int, Row]]) -> None: ...

    def get(self, key: int) -> Row: ...

    def update(self, key: int, column: int, text: str) -> None:
        """Change one column of a row, blindly."""
        ...

    def replace(self, key: int, row: Row) -> None:
        """Write all of a row that is there."""
        ...

    def advance(self, key: int, column: int) -> Row:
        """Read a row, and count up one of its columns."""
        ...

    def make_counters(self, count: int) -> None: ...

    def increment(self, counter: int) -> None: ...

    def counters(self) -> list[int]: ...

    def count(self) -> int:
        """How many rows there are."""
        ...

    # Others

    def snapshot(self) -> AbstractContextManager[Get]:
        """Many reads of one version."""
        ...

    def checkpoint(self) -> None:
        """Bring what was committed to its final place, as far as others allow it."""
        ...

    def close(self) -> None: ...


class Pykesto:
    NAME = FILES = "pykesto"
    NEEDS: ClassVar[tuple[str, ...]] = ()

    @staticmethod
    def version() -> str:
        return pykesto.__version__

    @classmethod
    def serving(cls, place: Path) -> AbstractContextManager[object]:
        return nullcontext()

    def __init__(self, place: Path, durability: Durability) -> None:
        self.db = pykesto.open(place / "db.kesto", durability=durability, lock_timeout=BUSY_S)

    def create(self) -> None:
        """Tables come to be when first written to."""

    def put(self, key: int, row: Row) -> None:
        with self.db.transaction() as s:
            s.table("rows")[key] = row

    def replace(self, key: int, row: Row) -> None:
        """Write a row that another process may write at the same moment."""
        self.db.run(self._replace, key, row, attempts=ATTEMPTS)

    @staticmethod
    def _replace(s: pykesto.Session, key: int, row: Row) -> None:
        s.table("rows")[key] = row

    def put_many(self, rows: Iterable[tuple[int, Row]]) -> None:
        with self.db.transaction() as s:
            s.table("rows").update(rows)

    def get(self, key: int) -> Row:
        with self.db.session(read_only=True) as s:
            return s.table("rows")[key].to_dict()

    def update(self, key: int, column: int, text: str) -> None:
        self.db.run(self._update, key, column, text, attempts=ATTEMPTS)

    @staticmethod
    def _update(s: pykesto.Session, key: int, column: int, text: str) -> None:
        s.table("rows")[key][COLUMNS[column]] = text

    def advance(self, key: int, column: int) -> Row:
        row: Row = self.db.run(self._advance, key, column, attempts=ATTEMPTS)
        return row

    @staticmethod
    def _advance(s: pykesto.Session, key: int, column: int) -> Row:
        row = s.table("rows")[key]
        found = row.to_dict()
        name = COLUMNS[column]
        row[name] = cell(key, column, count_of(found[name]) + 1)
        return found

    def make_counters(self, count: int) -> None:
        with self.db.transaction() as s:
            for counter in range(count):
                s.table("counters")[counter] = {"n": 0}

    def increment(self, counter: int) -> None:
        self.db.run(self._increment, counter, attempts=ATTEMPTS)

    @staticmethod
    def _increment(s: pykesto.Session, counter: int) -> None:
        s.table("counters")[counter]["n"] += 1

    def counters(self) -> list[int]:
        with self.db.session(read_only=True) as s:
            return [row["n"] for row in s.table("counters").values()]

    def count(self) -> int:
        with self.db.session(read_only=True) as s:
            return len(s.table("rows"))

    @contextmanager
    def snapshot(self) -> Iterator[Get]:
        with self.db.session(read_only=True) as s:
            rows = s.table("rows")
            yield lambda key: rows[key].to_dict()

    def checkpoint(self) -> None:
        self.db.checkpoint()

    def close(self) -> None:
        self.db.close()


class Sqlite:
    NAME = FILES = "sqlite3"
    NEEDS: ClassVar[tuple[str, ...]] = ()
    SYNCHRONOUS = {"full": "FULL", "process": "NORMAL"}

    SELECT = f"SELECT {', '.join(COLUMNS)} FROM rows WHERE key = ?"
    INSERT = f"INSERT INTO rows VALUES (?, {', '.join('?' * len(COLUMNS))})"
    REPLACE = f"UPDATE rows SET {', '.join(f'{name} = ?' for name in COLUMNS)} WHERE key = ?"
    UPDATE = [f"UPDATE rows SET {name} = ? WHERE key = ?" for name in COLUMNS]

    @staticmethod
    def version() -> str:
        return sqlite3.sqlite_version

    @classmethod
    def serving(cls, place: Path) -> AbstractContextManager[object]:
        return nullcontext()

    def __init__(self, place: Path, durability: Durability) -> None:
        connection = sqlite3.connect(place / "db.sqlite", timeout=BUSY_S, isolation_level=None)
        self.execute, self.executemany, self.close = connection.execute, connection.executemany, connection.close
        self.execute("PRAGMA journal_mode=WAL")
        self.execute(f"PRAGMA synchronous={self.SYNCHRONOUS[durability]}")
        self.execute("PRAGMA cache_size=-65536")
        self.execute(f"PRAGMA mmap_size={1 << 30}")

    def create(self) -> None:
        columns = ", ".join(f"{name} TEXT" for name in COLUMNS)
        self.execute(f"CREATE TABLE rows (key INTEGER PRIMARY KEY, {columns})")
        self.execute("CREATE TABLE counters (key INTEGER PRIMARY KEY, n INTEGER)")

    # A statement alone is a transaction: fewer calls than BEGIN IMMEDIATE and COMMIT around it, and no less safe.

    def put(self, key: int, row: Row) -> None:
        self.execute(self.INSERT, (key, *row.values()))

    def replace(self, key: int, row: Row) -> None:
        self.execute(self.REPLACE, (*row.values(), key))

    def put_many(self, rows: Iterable[tuple[int, Row]]) -> None:
        self.execute("BEGIN IMMEDIATE")
        self.executemany(self.INSERT, ((key, *row.values()) for key, row in rows))
        self.execute("COMMIT")

    def get(self, key: int) -> Row:
        return dict(zip(COLUMNS, self.execute(self.SELECT, (key,)).fetchone(), strict=False))

    def update(self, key: int, column: int, text: str) -> None:
        self.execute(self.UPDATE[column], (text, key))

    def advance(self, key: int, column: int) -> Row:
        self.execute("BEGIN IMMEDIATE")
        row = self.get(key)
        self.execute(self.UPDATE[column], (cell(key, column, count_of(row[COLUMNS[column]]) + 1), key))
        self.execute("COMMIT")
        return row

    def make_counters(self, count: int) -> None:
        self.execute("BEGIN IMMEDIATE")
        self.executemany("INSERT INTO counters VALUES (?, 0)", ((counter,) for counter in range(count)))
        self.execute("COMMIT")

    def increment(self, counter: int) -> None:
        self.execute("BEGIN IMMEDIATE")  # read, then write, as all peers do
        [n] = self.execute("SELECT n FROM counters WHERE key = ?", (counter,)).fetchone()
        self.execute("UPDATE counters SET n = ? WHERE key = ?", (n + 1, counter))
        self.execute("COMMIT")

    def counters(self) -> list[int]:
        return [n for (n,) in self.execute("SELECT n FROM counters ORDER BY key")]

    def count(self) -> int:
        return int(self.execute("SELECT count(*) FROM rows").fetchone()[0])

    @contextmanager
    def snapshot(self) -> Iterator[Get]:
        self.execute("BEGIN")
        yield self.get
        self.execute("COMMIT")

    def checkpoint(self) -> None:
        self.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


class Lmdb:
    NAME = FILES = "lmdb"
    NEEDS: ClassVar[tuple[str, ...]] = ("lmdb", "msgpack")
    OPTIONS: ClassVar[dict[str, bool]] = {}
    MAP_BYTES = 16 << 30

    @staticmethod
    def version() -> str:
        import lmdb

        return str(lmdb.__version__)

    @classmethod
    def serving(cls, place: Path) -> AbstractContextManager[object]:
        return nullcontext()

    def __init__(self, place: Path, durability: Durability) -> None:
        import lmdb
        import msgpack

        self.pack, self.unpack = msgpack.packb, msgpack.unpackb
        self.env = lmdb.open(str(place), map_size=self.MAP_BYTES, max_dbs=2, max_readers=512, **self.OPTIONS)
        self.begin, self.close = self.env.begin, self.env.close
        self.rows, self.numbers = self.env.open_db(b"rows"), self.env.open_db(b"counters")
        self.key = struct.Struct(">Q").pack

    def create(self) -> None:
        """Opening did it."""

    def put(self, key: int, row: Row) -> None:
        with self.begin(self.rows, write=True) as txn:
            txn.put(self.key(key), self.pack(row))

    replace = put

    def put_many(self, rows: Iterable[tuple[int, Row]]) -> None:
        with self.begin(self.rows, write=True) as txn:
            txn.cursor().putmulti([(self.key(key), self.pack(row)) for key, row in rows])

    def get(self, key: int) -> Row:
        with self.begin(self.rows, buffers=True) as txn:
            row: Row = self.unpack(txn.get(self.key(key)))
            return row

    def update(self, key: int, column: int, text: str) -> None:
        packed = self.key(key)
        with self.begin(self.rows, write=True) as txn:
            row = self.unpack(txn.get(packed))
            row[COLUMNS[column]] = text
            txn.put(packed, self.pack(row))

    def advance(self, key: int, column: int) -> Row:
        packed, name = self.key(key), COLUMNS[column]
        with self.begin(self.rows, write=True) as txn:
            row: Row = self.unpack(txn.get(packed))
            txn.put(packed, self.pack({**row, name: cell(key, column, count_of(row[name]) + 1)}))
            return row

    def make_counters(self, count: int) -> None:
        with self.begin(self.numbers, write=True) as txn:
            for counter in range(count):
                txn.put(self.key(counter), self.pack(0))

    def increment(self, counter: int) -> None:
        packed = self.key(counter)
        with self.begin(self.numbers, write=True) as txn:
            txn.put(packed, self.pack(self.unpack(txn.get(packed)) + 1))

    def counters(self) -> list[int]:
        with self.begin(self.numbers) as txn:
            return [self.unpack(packed) for _, packed in txn.cursor()]

    def count(self) -> int:
        with self.begin(self.rows) as txn:
            return int(txn.stat(self.rows)["entries"])

    @contextmanager
    def snapshot(self) -> Iterator[Get]:
        with self.begin(self.rows, buffers=True) as txn:
            yield lambda key: self.unpack(txn.get(self.key(key)))

    def checkpoint(self) -> None:
        self.env.sync(True)


class LmdbNosync(Lmdb):
    NAME = "lmdb nosync"
    OPTIONS = {"sync": False, "metasync": False}


class LmdbWritemap(Lmdb):
    NAME = "lmdb writemap"
    OPTIONS = {"sync": False, "metasync": False, "writemap": True, "map_async": True}


class Zodb:
    NAME = FILES = "zodb"
    NEEDS: ClassVar[tuple[str, ...]] = ("ZODB", "BTrees", "transaction")
    CACHED_OBJECTS = 200_000

    @staticmethod
    def version() -> str:
        import importlib.metadata

        return importlib.metadata.version("ZODB")

    @classmethod
    def serving(cls, place: Path) -> AbstractContextManager[object]:
        return nullcontext()

    def open_storage(self, place: Path) -> Any:
        from ZODB.FileStorage import FileStorage

        return FileStorage(str(place / "Data.fs"))

    def __init__(self, place: Path, durability: Durability) -> None:
        import transaction
        import ZODB
        from persistent.mapping import PersistentMapping
        from ZODB.POSException import ConflictError

        self.mapping, self.conflict = PersistentMapping, ConflictError
        self.transaction = transaction.TransactionManager()
        self.db = ZODB.DB(self.open_storage(place), cache_size=self.CACHED_OBJECTS)
        self.connection = self.db.open(self.transaction)

    def create(self) -> None:
        from BTrees.LOBTree import LOBTree

        self.commit(lambda: self.connection.root().update(rows=LOBTree(), counters=LOBTree()))

    @property
    def rows(self) -> Any:
        return self.connection.root()["rows"]

    @property
    def numbers(self) -> Any:
        return self.connection.root()["counters"]

    def commit(self, change: Callable[[], Any]) -> Any:
        while True:
            try:
                self.transaction.begin()
                result = change()
                self.transaction.commit()
                return result
            except self.conflict:
                self.transaction.abort()

    def put(self, key: int, row: Row) -> None:
        self.commit(lambda: self.rows.insert(key, self.mapping(row)))

    def put_many(self, rows: Iterable[tuple[int, Row]]) -> None:
        listed = list(rows)
        self.commit(lambda: self.rows.update([(key, self.mapping(row)) for key, row in listed]))

    def replace(self, key: int, row: Row) -> None:
        self.commit(lambda: self.rows[key].update(row))

    def get(self, key: int) -> Row:
        with self.snapshot() as get:
            return get(key)

    def update(self, key: int, column: int, text: str) -> None:
        self.commit(lambda: self.rows[key].update({COLUMNS[column]: text}))

    def advance(self, key: int, column: int) -> Row:
        def change() -> Row:
            row = self.rows[key]
            found: Row = dict(row)
            row[COLUMNS[column]] = cell(key, column, count_of(found[COLUMNS[column]]) + 1)
            return found

        found: Row = self.commit(change)
        return found

    def make_counters(self, count: int) -> None:
        self.commit(lambda: self.numbers.update([(counter, self.mapping(n=0)) for counter in range(count)]))

    def increment(self, counter: int) -> None:
        def change() -> None:
            self.numbers[counter]["n"] += 1

        self.commit(change)

    def counters(self) -> list[int]:
        with self.snapshot():
            return [counter["n"] for counter in self.numbers.values()]

    def count(self) -> int:
        with self.snapshot():
            return len(self.rows)

    @contextmanager
    def snapshot(self) -> Iterator[Get]:
        self.transaction.begin()
        yield lambda key: dict(self.rows[key])
        self.transaction.abort()

    def checkpoint(self) -> None:
        """There is none."""

    def close(self) -> None:
        self.connection.close()
        self.db.close()


class Zeo(Zodb):
    NAME = "zeo"
    NEEDS = (*Zodb.NEEDS, "ZEO")

    @classmethod
    @contextmanager
    def serving(cls, place: Path) -> Iterator[object]:
        """Its server, in a process of its own; the file `port` says where."""
        spawn = multiprocessing.get_context("spawn")
        hear, tell = spawn.Pipe()
        server = spawn.Process(target=serve_zeo, args=(place, tell), daemon=True)
        server.start()
        tell.close()
        try:
            if not hear.poll(BUSY_S):
                raise TimeoutError(f"ZEO did not start in {BUSY_S:g} s")
            (place / "port").write_text(str(hear.recv()))
            yield server
        finally:
            server.kill()
            server.join()

    def open_storage(self, place: Path) -> Any:
        from ZEO.ClientStorage import ClientStorage

        port = int((place / "port").read_text())
        return ClientStorage(("127.0.0.1", port), wait=True, wait_timeout=BUSY_S, cache_size=256 << 20)


def serve_zeo(place: Path, tell: Any) -> None:
    import logging
    import threading

    import ZEO

    logging.getLogger("ZEO").setLevel(logging.CRITICAL)  # it tells of each that waits, and of each that leaves
    address, _ = ZEO.server(str(place / "Data.fs"))
    tell.send(address[1])
    threading.Event().wait()


KINDS: tuple[type[Peer], ...] = (Pykesto, Sqlite, Lmdb, LmdbNosync, LmdbWritemap, Zodb, Zeo)
PEERS: dict[str, type[Peer]] = {kind.NAME: kind for kind in KINDS}


def missing() -> list[str]:
    """The peers of which something is not installed."""
    return [name for name, kind in PEERS.items() if any(importlib.util.find_spec(one) is None for one in kind.NEEDS)]
