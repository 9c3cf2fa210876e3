"""The same graph of objects in each peer: plain Python, pykesto, ZODB, Durus, SQLAlchemy on SQLite.

The graph is that of the OO7 benchmark, small: a tree of assemblies, at whose leaves are composite parts; each has a
document and twenty atomic parts, each with three connections to others.

A peer makes a graph of its own classes, and opens it again; what it is asked is in `objects`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykesto

FANOUT, LEVELS, COMPOSITES, ATOMICS, CONNECTIONS = 3, 7, 500, 20, 3
DATES = 1000
TEXT = "A document of a composite part. " * 60


def resize(levels: int) -> None:
    """Have a graph of fewer levels in this process, for a test."""
    global LEVELS, COMPOSITES
    LEVELS, COMPOSITES = levels, min(COMPOSITES, FANOUT**levels)


@dataclass(frozen=True, slots=True)
class Made:
    """The classes of one peer; called as Python classes are."""

    assembly: Any
    composite: Any
    document: Any
    atomic: Any
    connection: Any
    listed: Callable[[list[Any]], Any] = list


def build(made: Made) -> tuple[Any, list[Any]]:
    """The design's root, and all atomic parts by number."""
    chance = random.Random(7)
    atomics: list[Any] = []
    composites = [_composite(made, number, atomics, chance) for number in range(COMPOSITES)]
    uses = FANOUT**LEVELS
    used = composites + chance.choices(composites, k=uses - COMPOSITES)  # each of them at least once
    chance.shuffle(used)

    def assembly(level: int) -> Any:
        if level == LEVELS:
            return made.assembly(
                number=level, parts=made.listed([used.pop() for _ in range(FANOUT)]), below=made.listed([])
            )
        below = [assembly(level + 1) for _ in range(FANOUT)]
        return made.assembly(number=level, parts=made.listed([]), below=made.listed(below))

    return assembly(1), atomics


def _composite(made: Made, number: int, atomics: list[Any], chance: random.Random) -> Any:
    document = made.document(title=f"Composite Part {number}", text=TEXT)
    parts = [
        made.atomic(
            number=len(atomics) + at,
            date=chance.randrange(DATES),
            x=chance.randrange(100_000),
            y=chance.randrange(100_000),
            to=made.listed([]),
        )
        for at in range(ATOMICS)
    ]
    for at, part in enumerate(parts):
        others = [parts[(at + 1) % ATOMICS], *chance.choices(parts, k=CONNECTIONS - 1)]
        part.to = made.listed([made.connection(kind="t", length=chance.randrange(1000), to=other) for other in others])
    atomics.extend(parts)
    return made.composite(
        number=number, date=chance.randrange(DATES), document=document, root=parts[0], atomics=made.listed(parts)
    )


def composites_of(assembly: Any) -> Iterator[Any]:
    """The composite parts of all base assemblies, as often as they are used."""
    yield from assembly.parts
    for below in assembly.below:
        yield from composites_of(below)


def traverse(root: Any) -> tuple[int, int]:
    """T1: depth first over the atomic parts of each composite part; how many were visited, and the sum of their x."""
    visited = total = 0
    for composite in composites_of(root):
        count, x = visit(composite)
        visited += count
        total += x
    return visited, total


def visit(composite: Any) -> tuple[int, int]:
    """Depth first over the atomic parts of a composite part; how many, and the sum of their x."""
    total = 0
    seen = set()
    stack = [composite.root]
    while stack:
        part = stack.pop()
        if part.number not in seen:
            seen.add(part.number)
            total += part.x
            for connection in part.to:
                stack.append(connection.to)
    return len(seen), total


def swap(root: Any) -> int:
    """T2a: swap x and y of one atomic part of each composite part; how many."""
    count = 0
    for composite in composites_of(root):
        part = composite.root
        part.x, part.y = part.y, part.x
        count += 1
    return count


class Plain:
    """Python objects in memory: the least that a traversal can cost."""

    name = "plain Python"

    class Node:
        def __init__(self, **attributes: Any) -> None:
            for name, value in attributes.items():
                setattr(self, name, value)

    class Assembly(Node):
        pass

    class Composite(Node):
        pass

    class Document(Node):
        pass

    class Atomic(Node):
        pass

    class Connection(Node):
        pass

    classes = Made(Assembly, Composite, Document, Atomic, Connection)

    def __init__(self, path: Path) -> None:
        self.made: tuple[Any, list[Any]] | None = None

    def build(self) -> None:
        self.made = build(self.classes)

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def root(self) -> Any:
        assert self.made is not None
        return self.made[0]

    def commit(self) -> None: ...

    def close(self) -> None: ...


class Assembly(pykesto.Persistent, name="oo7.Assembly"):
    number: int
    parts: list[Composite]
    below: list[Assembly]


class Composite(pykesto.Persistent, name="oo7.Composite"):
    number: int
    date: int
    document: Document
    root: Atomic
    atomics: list[Atomic]


class Document(pykesto.Persistent, name="oo7.Document"):
    title: str
    text: str


class Atomic(pykesto.Persistent, name="oo7.Atomic"):
    number: int = pykesto.field(index=True)
    date: int = pykesto.field(index=True)
    x: int
    y: int
    to: list[Connection]


class Connection(pykesto.Persistent, name="oo7.Connection"):
    kind: str
    length: int
    to: Atomic


class Pykesto:
    name = "pykesto"
    classes = Made(Assembly, Composite, Document, Atomic, Connection)

    def __init__(self, path: Path) -> None:
        self.db = pykesto.open(path / "db.kesto", lock_timeout=120)

    def build(self) -> None:
        with self.db.transaction() as s:
            root, atomics = build(self.classes)
            s.root["design"] = root
        with self.db.transaction() as s:
            s.root["ids"] = [atomic.k_id for atomic in atomics]

    def settle(self) -> None:
        self.db.checkpoint()

    def begin(self) -> None:
        self.s = self.db.session()

    def end(self) -> None:
        self.s.close()

    def root(self) -> Any:
        return self.s.root["design"]

    def keys(self) -> list[Any]:
        found: list[Any] = self.s.root["ids"]
        return found

    def lookup(self, key: Any) -> Any:
        return self.s.get(Atomic, key)

    def range(self, lo: int, hi: int) -> Iterator[Any]:
        return iter(self.s.query(Atomic).where(Atomic.date.between(lo, hi)))  # type: ignore[attr-defined]

    def commit(self) -> None:
        self.s.commit()

    def close(self) -> None:
        self.db.close()


def zodb() -> Any:
    import persistent
    import transaction
    import ZODB
    from BTrees.IOBTree import IOBTree
    from BTrees.OOBTree import OOBTree
    from persistent.list import PersistentList
    from ZODB.FileStorage import FileStorage

    class Zodb:
        name = "ZODB"
        base, listed, tree, ints = persistent.Persistent, PersistentList, OOBTree, IOBTree

        def __init__(self, path: Path) -> None:
            self.db = ZODB.DB(FileStorage(str(path / "data.fs")), cache_size=100_000)
            self.connection: Any = None

        def build(self) -> None:
            connection = self.db.open()
            root, atomics = build(ZODB_CLASSES)
            dates = OOBTree()
            for atomic in atomics:
                dates[atomic.date, atomic.number] = atomic
            connection.root()["design"] = root
            connection.root()["dates"] = dates
            transaction.commit()
            connection.root()["ids"] = [atomic._p_oid for atomic in atomics]
            transaction.commit()
            connection.close()

        def begin(self) -> None:
            self.db.pool = self.db.pool
            self.connection = self.db.open()

        def end(self) -> None:
            transaction.abort()
            self.connection.close()

        def root(self) -> Any:
            return self.connection.root()["design"]

        def keys(self) -> list[Any]:
            return list(self.connection.root()["ids"])

        def lookup(self, key: Any) -> Any:
            return self.connection.get(key)

        def range(self, lo: int, hi: int) -> Iterator[Any]:
            return iter(self.connection.root()["dates"].values((lo,), (hi, 1 << 60)))

        def commit(self) -> None:
            transaction.commit()

        def close(self) -> None:
            self.db.close()

    global ZODB_CLASSES
    ZODB_CLASSES = _derived("Zodb", persistent.Persistent, PersistentList)
    return Zodb


def durus() -> Any:
    from durus.btree import BTree
    from durus.connection import Connection as DurusConnection
    from durus.file_storage import FileStorage
    from durus.persistent import Persistent as DurusPersistent
    from durus.persistent_list import PersistentList

    class Durus:
        name = "Durus"

        def __init__(self, path: Path) -> None:
            self.path = str(path / "data.durus")
            self.connection: Any = None

        def build(self) -> None:
            self.begin()
            root, atomics = build(DURUS_CLASSES)
            dates = BTree()
            for atomic in atomics:
                dates[atomic.date, atomic.number] = atomic
            self.connection.get_root()["design"] = root
            self.connection.get_root()["dates"] = dates
            self.connection.commit()
            self.connection.get_root()["ids"] = [atomic._p_oid for atomic in atomics]
            self.connection.commit()
            self.end()

        def begin(self) -> None:
            self.storage = FileStorage(self.path)
            self.connection = DurusConnection(self.storage, cache_size=100_000)

        def end(self) -> None:
            self.storage.close()

        def root(self) -> Any:
            return self.connection.get_root()["design"]

        def keys(self) -> list[Any]:
            return list(self.connection.get_root()["ids"])

        def lookup(self, key: Any) -> Any:
            return self.connection.get(key)

        def range(self, lo: int, hi: int) -> Iterator[Any]:
            items = self.connection.get_root()["dates"].items_range((lo,), (hi, 1 << 60))
            return (value for _, value in items)

        def commit(self) -> None:
            self.connection.commit()

        def close(self) -> None: ...

    global DURUS_CLASSES
    DURUS_CLASSES = _derived("Durus", DurusPersistent, PersistentList)
    return Durus


ZODB_CLASSES: Made
DURUS_CLASSES: Made


def _derived(prefix: str, base: type, listed: Callable[[list[Any]], Any]) -> Made:
    """Classes below a peer's base, where pickles find them."""
    found = []
    for plain in (Plain.Assembly, Plain.Composite, Plain.Document, Plain.Atomic, Plain.Connection):
        name = prefix + plain.__name__
        made = type(name, (base,), {"__init__": Plain.Node.__init__, "__module__": __name__})
        globals()[name] = made
        found.append(made)
    return Made(*found, listed)


def sqlalchemy() -> Any:
    from .objects_sql import SqlAlchemy

    return SqlAlchemy


PEERS: dict[str, Callable[[], Any]] = {
    "pykesto": lambda: Pykesto,
    "plain Python": lambda: Plain,
    "ZODB": zodb,
    "Durus": durus,
    "SQLAlchemy": sqlalchemy,
}
