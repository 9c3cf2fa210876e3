"""The peers of the queries' benchmark: the same rows and indexes, the same five questions, answered with Python dicts.

Every question is asked of the newest state: in a session, transaction or statement of its own. SQLAlchemy gives
objects, as an ORM does. The index of ZODB is one of BTrees made by hand, as a catalog's field index is.
"""

from __future__ import annotations

import importlib
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pykesto
from pykesto import col

NAMES = ("name", "city", "team", "kind", "points", "score", "active")
INDEXED = ("city", "team", "kind", "points", "score")
AT_ONCE = 10_000
Columns = dict[str, Any]


class Sizes:
    """How many values the columns of so many rows have: equality finds 10 rows, and so do two columns together."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.cities = rows // 10
        self.teams = max(1, int((rows / 10) ** 0.5))
        self.step = next(step for step in range(int(rows * 0.618) | 1, rows * 2, 2) if _apart(step, rows))


def _apart(one: int, other: int) -> bool:
    while other:
        one, other = other, one % other
    return one == 1


def row_of(sizes: Sizes, number: int, turn: int = 0) -> Columns:
    """A row. Points and scores are each there once, in no order; another turn changes what is in no index."""
    points = number * sizes.step % sizes.rows
    return {
        "name": f"Person {number}" + ("" if not turn else f" ({turn})"),
        "city": f"City {number * 7 % sizes.cities}",
        "team": number % sizes.teams,
        "kind": f"kind {number // sizes.teams % sizes.teams}",
        "points": points,
        "score": (sizes.rows - points) / 2,
        "active": number % 3,
    }


def rows_of(sizes: Sizes) -> Iterator[tuple[int, Columns]]:
    return ((number, row_of(sizes, number)) for number in range(sizes.rows))


def batches(rows: Iterator[tuple[int, Columns]]) -> Iterator[list[tuple[int, Columns]]]:
    while batch := list(islice(rows, AT_ONCE)):
        yield batch


class Pykesto:
    """`query.dicts()`, in a session for each question."""

    def __init__(self, directory: Path) -> None:
        self.db = pykesto.open(directory / "people.kesto", durability="process")

    def load(self, sizes: Sizes) -> None:
        with self.db.transaction() as s:
            for name in INDEXED:
                s.table("people").create_index(name)
        for batch in batches(rows_of(sizes)):
            with self.db.transaction() as s:
                people = s.table("people")
                for number, row in batch:
                    people[number] = row
        self.db.checkpoint()

    def change(self, rows: dict[int, Columns]) -> None:
        with self.db.transaction() as s:
            for number, row in rows.items():
                s.table("people")[number] = row

    def unsettled(self) -> int:
        """How many rows have changes that no checkpoint has put into the tables."""
        return self.db.stats().overlay_rows

    def equality(self, city: str) -> list[Columns]:
        with self.db.session(read_only=True) as s:
            return s.table("people").query.col("city").equals(city).dicts()

    def range(self, lo: float, hi: float) -> list[Columns]:
        with self.db.session(read_only=True) as s:
            return s.table("people").query.col("score").between(lo, hi).dicts()

    def order(self, most: int) -> list[Columns]:
        with self.db.session(read_only=True) as s:
            return s.table("people").query.col("points").le(most).order_by("-points").limit(20).dicts()

    def both(self, team: int, kind: str) -> list[Columns]:
        with self.db.session(read_only=True) as s:
            return s.table("people").query.where(col("team") == team, col("kind") == kind).dicts()

    def count(self, lo: int, hi: int) -> int:
        with self.db.session(read_only=True) as s:
            return s.table("people").query.col("points").between(lo, hi).count()

    def close(self) -> None:
        self.db.close()


SELECT = f"SELECT {', '.join(NAMES)} FROM people WHERE "
PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "cache_size = -64000", "mmap_size = 4000000000")


def _make_sqlite(path: Path, sizes: Sizes) -> sqlite3.Connection:
    made = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        made.execute(f"PRAGMA {pragma}")
    made.execute(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, city TEXT, team INTEGER, kind TEXT, points INTEGER,"
        " score REAL, active INTEGER)"
    )
    made.execute("BEGIN")
    places = ", ".join("?" * (len(NAMES) + 1))
    made.executemany(
        f"INSERT INTO people VALUES ({places})", ((number, *row.values()) for number, row in rows_of(sizes))
    )
    for name in INDEXED:
        made.execute(f"CREATE INDEX {name}_index ON people ({name})")
    made.execute("COMMIT")
    made.execute("ANALYZE")
    return made


class Sqlite:
    """Prepared statements; dicts made of its tuples."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "people.db"
        self.db: Any = None

    def load(self, sizes: Sizes) -> None:
        self.db = _make_sqlite(self.path, sizes)

    def change(self, rows: dict[int, Columns]) -> None:
        places = ", ".join(f"{name} = :{name}" for name in NAMES)
        self.db.execute("BEGIN")
        self.db.executemany(
            f"UPDATE people SET {places} WHERE id = :id", ({"id": number, **row} for number, row in rows.items())
        )
        self.db.execute("COMMIT")

    def _ask(self, where: str, *values: Any) -> list[Columns]:
        return [dict(zip(NAMES, row, strict=False)) for row in self.db.execute(SELECT + where, values)]

    def equality(self, city: str) -> list[Columns]:
        return self._ask("city = ?", city)

    def range(self, lo: float, hi: float) -> list[Columns]:
        return self._ask("score BETWEEN ? AND ?", lo, hi)

    def order(self, most: int) -> list[Columns]:
        return self._ask("points <= ? ORDER BY points DESC LIMIT 20", most)

    def both(self, team: int, kind: str) -> list[Columns]:
        return self._ask("team = ? AND kind = ?", team, kind)

    def count(self, lo: int, hi: int) -> int:
        found: int = self.db.execute("SELECT count(*) FROM people WHERE points BETWEEN ? AND ?", (lo, hi)).fetchone()[0]
        return found

    def close(self) -> None:
        self.db.close()


class Orm:
    """A session for each question, which gives objects."""

    def __init__(self, directory: Path) -> None:
        from .query_orm import Person, count, select, session_on

        self.path = directory / "orm.db"
        self.Person, self.select_count, self.select, self.session_on = Person, count, select, session_on

    def load(self, sizes: Sizes) -> None:
        _make_sqlite(self.path, sizes).close()
        self.session = self.session_on(self.path, PRAGMAS)

    def change(self, rows: dict[int, Columns]) -> None:
        with self.session() as s:
            for number, row in rows.items():
                person = s.get(self.Person, number)
                for name, value in row.items():
                    setattr(person, name, value)
            s.commit()

    def _ask(self, question: Any) -> list[Any]:
        with self.session() as s:
            return list(s.scalars(question))

    def equality(self, city: str) -> list[Any]:
        return self._ask(self.select(self.Person).where(self.Person.city == city))

    def range(self, lo: float, hi: float) -> list[Any]:
        return self._ask(self.select(self.Person).where(self.Person.score.between(lo, hi)))

    def order(self, most: int) -> list[Any]:
        Person = self.Person
        return self._ask(self.select(Person).where(Person.points <= most).order_by(Person.points.desc()).limit(20))

    def both(self, team: int, kind: str) -> list[Any]:
        return self._ask(self.select(self.Person).where(self.Person.team == team, self.Person.kind == kind))

    def count(self, lo: int, hi: int) -> int:
        with self.session() as s:
            found: int = s.scalar(self.select_count().where(self.Person.points.between(lo, hi)))
            return found

    def close(self) -> None:
        pass


class Zodb:
    """Rows in a BTree, an index as a BTree of values to sets of keys; all in the cache."""

    def __init__(self, directory: Path) -> None:
        self.trees: Any = importlib.import_module("BTrees")
        zodb: Any = importlib.import_module("ZODB")
        storage: Any = importlib.import_module("ZODB.FileStorage").FileStorage(str(directory / "people.fs"))
        self.db = zodb.DB(storage, cache_size=1_000_000_000, cache_size_bytes=0)
        self.connection = self.db.open()
        self.ii: Any = importlib.import_module("BTrees.IIBTree")
        self.io: Any = importlib.import_module("BTrees.IOBTree")
        self.oo: Any = importlib.import_module("BTrees.OOBTree")
        self.mapping: Any = importlib.import_module("persistent.mapping").PersistentMapping

    def load(self, sizes: Sizes) -> None:
        root = self.connection.root()
        self.people = root["people"] = self.io.IOBTree()
        self.indexes = {name: self.oo.OOBTree() for name in INDEXED}
        root["indexes"] = self.mapping(self.indexes)
        for batch in batches(rows_of(sizes)):
            for number, row in batch:
                self.people[number] = self.mapping(row)
                for name in INDEXED:
                    self._list(name, row[name], number)
            self.connection.transaction_manager.commit()

    def _list(self, name: str, value: Any, number: int) -> None:
        found = self.indexes[name].get(value)
        if found is None:
            found = self.indexes[name][value] = self.ii.IITreeSet()
        found.insert(number)

    def change(self, rows: dict[int, Columns]) -> None:
        for number, row in rows.items():
            self.people[number].update(row)
        self.connection.transaction_manager.commit()

    def _begin(self) -> None:
        self.connection.transaction_manager.begin()

    def _rows(self, numbers: Any) -> list[Columns]:
        people = self.people
        return [dict(people[number]) for number in numbers]

    def equality(self, city: str) -> list[Columns]:
        self._begin()
        return self._rows(self.indexes["city"].get(city, ()))

    def range(self, lo: float, hi: float) -> list[Columns]:
        self._begin()
        return self._rows(number for found in self.indexes["score"].values(lo, hi) for number in found)

    def order(self, most: int) -> list[Columns]:
        """A BTree isn't walked backwards: the last values are looked for in a range that is likely to hold them."""
        self._begin()
        found = list(self.indexes["points"].values(most - 19, most))
        return self._rows(number for numbers in reversed(found) for number in numbers)

    def both(self, team: int, kind: str) -> list[Columns]:
        self._begin()
        return self._rows(self.ii.intersection(self.indexes["team"][team], self.indexes["kind"][kind]))

    def count(self, lo: int, hi: int) -> int:
        self._begin()
        return sum(map(len, self.indexes["points"].values(lo, hi)))

    def close(self) -> None:
        self.connection.close()
        self.db.close()


PEERS: dict[str, Any] = {"pykesto": Pykesto, "sqlite3": Sqlite, "SQLAlchemy": Orm, "ZODB": Zodb}
