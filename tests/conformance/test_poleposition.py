"""PolePosition's circuits, from their descriptions: what is written is read, found, changed and deleted, by its sum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pykesto
from pykesto import Database, Persistent, field

COUNT = 60


class Pilot(Persistent):
    """Melbourne, Imola: flat objects."""

    name: str = ""
    points: int = 0
    license_id: int = field(default=0, index=True)


class Tree(Persistent):
    """Sepang: a tree that is written, read and deleted as a whole."""

    name: str = ""
    depth: int = 0
    preceding: Tree | None = None
    subsequent: Tree | None = None


class IndexedPilot(Persistent):
    """Bahrain: queries with an index and without."""

    name: str = ""
    first_name: str = field(default="", index=True)
    points: int = 0
    license_id: int = field(default=0, index=True)


class Barcelona0(Persistent):
    """Barcelona: each class of a deep hierarchy adds one attribute; queries ask by those of different depth."""

    b0: int = 0


class Barcelona1(Barcelona0):
    b1: int = 0


class Barcelona2(Barcelona1):
    b2: int = field(default=0, index=True)


class Barcelona3(Barcelona2):
    b3: int = 0


class Barcelona4(Barcelona3):
    b4: int = 0


class Holder(Persistent):
    """Monaco: objects that hold lists of numbers and of objects."""

    name: str = ""
    numbers: list[int] = field(default_factory=list)
    pilots: list[Pilot] = field(default_factory=list)


@pytest.fixture
def db(database: Path) -> Iterator[Database]:
    with pykesto.open(database) as opened:
        yield opened


@pytest.fixture(params=[False, True], ids=["journal", "base"])
def settle(request: pytest.FixtureRequest, db: Database) -> object:
    """Between two laps: nothing, or all that was written is in a base."""
    return db.checkpoint if request.param else lambda: None


def test_melbourne_writes_reads_and_deletes_flat_objects(db: Database, settle: object) -> None:
    with db.transaction() as s:
        for n in range(COUNT):
            s.add(Pilot(name=f"Pilot_{n}", points=n, license_id=n))
    settle()  # type: ignore[operator]
    with db.session() as s:
        assert sum(pilot.points for pilot in s.query(Pilot)) == sum(range(COUNT))
    with db.transaction() as s:
        for pilot in s.query(Pilot):
            s.delete(pilot)
    with db.session() as s:
        assert s.query(Pilot).count() == 0


def test_imola_retrieves_by_id(db: Database, settle: object) -> None:
    with db.transaction() as s:
        ids = [s.add(Pilot(name=f"Pilot_{n}", points=n)).k_id for n in range(COUNT)]
    settle()  # type: ignore[operator]
    with db.session() as s:
        found = [s.get(Pilot, id) for id in ids]
        assert [pilot.points for pilot in found if pilot is not None] == list(range(COUNT))


def grow(depth: int) -> Tree | None:
    if depth == 0:
        return None
    return Tree(name=f"node {depth}", depth=depth, preceding=grow(depth - 1), subsequent=grow(depth - 1))


def nodes(tree: Tree | None) -> Iterator[Tree]:
    if tree is not None:
        yield tree
        yield from nodes(tree.preceding)
        yield from nodes(tree.subsequent)


def test_sepang_writes_reads_and_deletes_a_tree(db: Database, settle: object) -> None:
    with db.transaction() as s:
        s.root["tree"] = grow(6)
    settle()  # type: ignore[operator]
    with db.session() as s:
        found = list(nodes(s.root["tree"]))
        assert (len(found), sum(node.depth for node in found)) == (63, sum(d << (6 - d) for d in range(1, 7)))
    with db.transaction() as s:
        for node in list(nodes(s.root.pop("tree"))):
            s.delete(node)
    with db.session() as s:
        assert s.query(Tree).count() == 0


def test_bahrain_queries_updates_and_deletes(db: Database, settle: object) -> None:
    with db.transaction() as s:
        for n in range(COUNT):
            s.add(IndexedPilot(name=f"Pilot_{n}", first_name=f"Jonny_{n}", points=n % 7, license_id=n))
    settle()  # type: ignore[operator]
    with db.session() as s:
        for n in range(0, COUNT, 9):
            by_string = s.query(IndexedPilot).where(IndexedPilot.first_name == f"Jonny_{n}").one()
            by_number = s.query(IndexedPilot).where(IndexedPilot.license_id == n).one()
            by_plain_string = s.query(IndexedPilot, lambda p, name=f"Pilot_{n}": p.name == name).one()
            assert by_string is by_number is by_plain_string
        assert s.query(IndexedPilot).where(IndexedPilot.points == 3).count() == len(range(3, COUNT, 7))
    with db.transaction() as s:
        for pilot in s.query(IndexedPilot).where(IndexedPilot.license_id < COUNT // 2):
            pilot.first_name = pilot.first_name.upper()
    with db.session() as s:
        assert s.query(IndexedPilot, lambda p: p.first_name.startswith("JONNY")).count() == COUNT // 2
        assert s.query(IndexedPilot).where(IndexedPilot.first_name == "Jonny_0").count() == 0
    with db.transaction() as s:
        for pilot in s.query(IndexedPilot):
            s.delete(pilot)
        assert s.query(IndexedPilot).count() == 0


def test_barcelona_asks_a_deep_hierarchy(db: Database, settle: object) -> None:
    with db.transaction() as s:
        for n in range(COUNT):
            s.add(Barcelona4(b0=n, b1=n + 1, b2=n + 2, b3=n + 3, b4=n + 4))
            s.add(Barcelona2(b0=n, b1=n + 1, b2=-n - 1))
    settle()  # type: ignore[operator]
    with db.session() as s:
        assert sum(one.b4 for one in s.query(Barcelona4)) == sum(range(4, COUNT + 4))
        for n in range(0, COUNT, 11):
            assert s.query(Barcelona4).where(Barcelona4.b2 == n + 2).one().b0 == n
            assert s.query(Barcelona0).where(Barcelona2.b2 == n + 2).one().b0 == n
        assert s.query(Barcelona0).count() == 2 * COUNT
        assert s.query(Barcelona3).count() == COUNT
    with db.transaction() as s:
        for one in s.query(Barcelona3):
            s.delete(one)
        assert s.query(Barcelona0).count() == COUNT


def test_monaco_changes_lists_of_numbers_and_of_objects(db: Database, settle: object) -> None:
    with db.transaction() as s:
        pilots = [s.add(Pilot(name=f"Pilot_{n}", points=n)) for n in range(10)]
        for n in range(10):
            s.add(Holder(name=f"holder {n}", numbers=list(range(n)), pilots=pilots[:n]))
    settle()  # type: ignore[operator]
    with db.transaction() as s:
        for holder in s.query(Holder):
            holder.numbers.append(100)
            if holder.pilots:
                holder.pilots.pop(0)
    with db.session() as s:
        found = {holder.name: holder for holder in s.query(Holder)}
        for n in range(10):
            assert list(found[f"holder {n}"].numbers) == [*range(n), 100]
            assert [pilot.points for pilot in found[f"holder {n}"].pilots] == list(range(1, n))
