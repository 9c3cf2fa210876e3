"""A real graph: all packages of Debian's index as objects that refer to those they depend on, in each peer.

What is asked is the closure of one package, that with the most dependencies: all packages that it needs, directly or
through others. How many they are, and the sum of their sizes, must be the same everywhere.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pykesto
from examples.debian_packages.index import dependencies, fields, paragraphs, read_index

from . import objects_peers


class Record(NamedTuple):
    """What is kept of a package, and the names of those that it depends on."""

    name: str
    version: str
    section: str
    size: int
    summary: str
    depends: tuple[str, ...]


def records(index: Path | None, limit: int | None = None) -> list[Record]:
    """The packages of an index, or of this machine's; NoIndex if there is none."""
    found = {str(one["name"]): one for one in map(fields, paragraphs(read_index(index), limit))}
    return [
        Record(
            name,
            str(one.get("version", "")),
            str(one.get("section", "")),
            int(str(one.get("installed_size", 0))),
            str(one.get("description", "")),
            tuple(wanted(str(one.get("depends", "")), found)),
        )
        for name, one in found.items()
    ]


def wanted(depends: str, known: dict[str, Any]) -> Iterable[str]:
    """Of each of the alternatives the first that there is, once."""
    chosen = [next((c for c in choices if c in known), None) for choices in dependencies(depends)]
    return dict.fromkeys(name for name in chosen if name is not None)


def heaviest(found: Iterable[Record]) -> str:
    """The package with the most dependencies."""
    return max(found, key=lambda one: (len(one.depends), one.name)).name


def made(cls: Any, found: list[Record], listed: Callable[[list[Any]], Any] = list) -> dict[str, Any]:
    """Objects by name, linked."""
    packages = {
        one.name: cls(name=one.name, version=one.version, section=one.section, size=one.size, summary=one.summary)
        for one in found
    }
    for one in found:
        packages[one.name].depends = listed([packages[name] for name in one.depends])
    return packages


def closure(package: Any) -> tuple[int, int]:
    """All that a package needs, itself among them: how many, and the sum of their sizes."""
    seen = {package.name}
    stack = [package]
    size = 0
    while stack:
        found = stack.pop()
        size += found.size
        for other in found.depends:
            if other.name not in seen:
                seen.add(other.name)
                stack.append(other)
    return len(seen), size


def stored(place: Path) -> list[Record]:
    return [Record(*one) for one in pickle.loads((place / "records").read_bytes())]  # made by store()


def store(place: Path, found: list[Record]) -> None:
    (place / "records").write_bytes(pickle.dumps([tuple(one) for one in found]))


class Package(pykesto.Persistent, name="benchmark.Package"):
    name: str = pykesto.field(index=True)
    version: str
    section: str
    size: int
    summary: str
    depends: list[Package] = pykesto.field(default_factory=list)


class Own(objects_peers.Pykesto):
    def build(self) -> None:
        with self.db.transaction() as s:
            for package in made(Package, stored(self.place)).values():
                s.add(package)

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.place = place

    def find(self, name: str) -> Any:
        return self.s.query(Package).where(Package.name == name).one()


class Plain(objects_peers.Plain):
    def __init__(self, place: Path) -> None:
        self.place = place

    def build(self) -> None:
        self.packages = made(self.Node, stored(self.place))

    def find(self, name: str) -> Any:
        return self.packages[name]


def _with_tree(base: Any, classes: objects_peers.Made, tree: Any) -> Any:
    """A peer like ZODB, which finds packages by a tree in its root."""

    class Tree(base):  # type: ignore[misc]
        def __init__(self, place: Path) -> None:
            super().__init__(place)
            self.place = place

        def build(self) -> None:
            self.begin()
            packages = made(classes.atomic, stored(self.place), classes.listed)
            self.top()["packages"] = names = tree()
            for name, package in packages.items():
                names[name] = package
            self.commit()
            self.end()

        def top(self) -> Any:
            return self.connection.get_root() if hasattr(self.connection, "get_root") else self.connection.root()

        def find(self, name: str) -> Any:
            return self.top()["packages"][name]

    return Tree


def zodb() -> Any:
    base = objects_peers.zodb()
    return _with_tree(base, objects_peers.ZODB_CLASSES, base.tree)


def durus() -> Any:
    from durus.btree import BTree

    base = objects_peers.durus()
    return _with_tree(base, objects_peers.DURUS_CLASSES, BTree)


def sqlalchemy() -> Any:
    from .objects_packages_sql import SqlPackages

    return SqlPackages


PEERS: dict[str, Callable[[], Any]] = {
    "pykesto": lambda: Own,
    "plain Python": lambda: Plain,
    "ZODB": zodb,
    "Durus": durus,
    "SQLAlchemy": sqlalchemy,
}
