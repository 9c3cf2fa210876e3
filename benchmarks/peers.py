"""The databases that are measured: the same rows, transactions and questions for each.

Two tables. `items`: number -> n, score (indexed), text. `log`: (process, step) -> item, text. Rows are of about 200
bytes.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pykesto
from pykesto.store import Durability

ITEMS = 10_000
SCORES = 50_000
TEXT = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor. " * 2
RETRIES = 10_000


def items() -> list[tuple[int, int, int, str]]:
    """number, n, score, text of each item: the same in every run."""
    chance = random.Random(1)
    return [(number, 0, chance.randrange(SCORES), f"{number:08d} {TEXT}") for number in range(ITEMS)]


class Reader(Protocol):
    """One snapshot."""

    def point(self, number: int) -> int:
        """Look an item up; its score."""
        ...

    def range(self, low: int, high: int) -> tuple[int, int]:
        """Whole items with low <= score <= high, through the index: how many, and the sum of their numbers."""
        ...


class Peer(Protocol):
    """One process's handle of a database."""

    NAME: str

    @classmethod
    def create(cls, path: Path) -> None:
        """Make it and fill it, and leave it as it is when all has been quiet for a while."""
        ...

    def __init__(self, path: Path, durability: Durability) -> None: ...

    def change(self, number: int, process: int, step: int) -> None:
        """One transaction: read an item, write it with n one higher, and write a new row to the log."""
        ...

    def snapshot(self) -> AbstractContextManager[Reader]: ...

    def totals(self) -> tuple[int, int]:
        """The sum of all n, and the rows of the log: both are the number of commits."""
        ...

    def close(self) -> None: ...


class Pykesto:
    """pykesto: serializable, as it is by default."""

    NAME = "pykesto"

    @classmethod
    def create(cls, path: Path) -> None:
        with pykesto.open(path / "db.kesto") as db:
            with db.transaction() as s:
                table = s.table("items")
                table.create_index("score")
                for number, n, score, text in items():
                    table[number] = {"n": n, "score": score, "text": text}
            db.checkpoint()

    def __init__(self, path: Path, durability: Durability) -> None:
        self.db = pykesto.open(path / "db.kesto", create=False, durability=durability)

    def change(self, number: int, process: int, step: int) -> None:
        self.db.run(self._change, number, process, step, attempts=RETRIES)

    @staticmethod
    def _change(s: pykesto.Session, number: int, process: int, step: int) -> None:
        item = s.table("items")[number]
        item["n"] += 1
        s.table("log")[process, step] = {"item": number, "text": item["text"]}

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        with self.db.session(read_only=True) as s:
            yield PykestoReader(s.table("items"))

    def totals(self) -> tuple[int, int]:
        with self.db.session(read_only=True) as s:
            return s.table("items").query.sum("n"), len(s.table("log"))

    def close(self) -> None:
        self.db.close()


class PykestoReader:
    def __init__(self, table: pykesto.Table) -> None:
        self.table = table

    def point(self, number: int) -> int:
        return int(self.table[number]["score"])

    def range(self, low: int, high: int) -> tuple[int, int]:
        count = total = 0
        for row in self.table.query.col("score").between(low, high):
            count += 1
            total += int(row["text"][:8])
        return count, total


class Sqlite:
    """Python's sqlite3: WAL; synchronous=FULL for full durability, NORMAL for that of processes; busy_timeout 10 s."""

    NAME = "sqlite3"
    SYNCHRONOUS = {"full": "FULL", "process": "NORMAL"}

    @classmethod
    def create(cls, path: Path) -> None:
        peer = cls(path, "full")
        execute = peer.connection.execute
        execute("CREATE TABLE items (number INTEGER PRIMARY KEY, n INTEGER, score INTEGER, text TEXT)")
        execute(
            "CREATE TABLE log (process INTEGER, step INTEGER, item INTEGER, text TEXT, PRIMARY KEY (process, step))"
            " WITHOUT ROWID"
        )
        execute("CREATE INDEX items_score ON items (score)")
        execute("BEGIN IMMEDIATE")
        peer.connection.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", items())
        execute("COMMIT")
        execute("PRAGMA wal_checkpoint(TRUNCATE)")
        peer.close()

    def __init__(self, path: Path, durability: Durability) -> None:
        self.connection = sqlite3.connect(path / "db.sqlite", timeout=10.0, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={self.SYNCHRONOUS[durability]}")

    def change(self, number: int, process: int, step: int) -> None:
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        n, text = execute("SELECT n, text FROM items WHERE number = ?", (number,)).fetchone()
        execute("UPDATE items SET n = ?, text = ? WHERE number = ?", (n + 1, text, number))
        execute("INSERT INTO log VALUES (?, ?, ?, ?)", (process, step, number, text))
        execute("COMMIT")

    @contextmanager
    def snapshot(self) -> Iterator[Reader]:
        self.connection.execute("BEGIN")
        yield self
        self.connection.execute("COMMIT")

    def point(self, number: int) -> int:
        found = self.connection.execute("SELECT n, score, text FROM items WHERE number = ?", (number,)).fetchone()
        return int(found[1])

    def range(self, low: int, high: int) -> tuple[int, int]:
        count = total = 0
        query = "SELECT number, n, score, text FROM items WHERE score BETWEEN ? AND ?"
        for row in self.connection.execute(query, (low, high)):
            count += 1
            total += int(row[3][:8])
        return count, total

    def totals(self) -> tuple[int, int]:
        execute = self.connection.execute
        return execute("SELECT sum(n) FROM items").fetchone()[0], execute("SELECT count(*) FROM log").fetchone()[0]

    def close(self) -> None:
        self.connection.close()


PEERS: dict[str, type[Peer]] = {Pykesto.NAME: Pykesto, Sqlite.NAME: Sqlite}
