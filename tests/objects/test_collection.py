"""What nothing reaches is found and removed, and nothing else, whatever others do meanwhile."""

import random
from typing import Any

import pytest

import pykesto
from pykesto import Blob, PersistentDict, PersistentList
from pykesto.objects.collection import mark, sweep


class Knot(pykesto.Persistent, name="collect.Knot", extent=False):
    label: int
    to: list[Any] = pykesto.field(default_factory=list)


class Kept(pykesto.Persistent, name="collect.Kept"):
    knot: Any = None


def labels(db: pykesto.Database) -> list[int]:
    with db.session() as s:
        return sorted(knot.label for knot in s.query(Knot))


def test_what_the_root_or_an_extent_reaches_is_kept(db: pykesto.Database) -> None:
    with db.transaction() as s:
        one, two, three = (Knot(label=n) for n in (1, 2, 3))
        one.to, two.to = [{"x": (two,)}], [one]
        s.root["knots"] = [one]
        s.add(Kept(knot=three))
        lost = s.add(Knot(label=4, to=[Knot(label=5)]))
        lost.to[0].to = [lost, one]  # in a ring, and referring to what is kept
        s.root["dict"] = PersistentDict({"a": Knot(label=6), Knot(label=7): 1})
        s.root["list"] = PersistentList([[Knot(label=8)]])
    found = db.collect(dry_run=True)
    assert (found.unreachable, {str(i) for i in found.some}) == (2, {str(lost.k_id), str(lost.to[0].k_id)})
    assert labels(db) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert db.collect().unreachable == 2
    assert labels(db) == [1, 2, 3, 6, 7, 8]
    assert db.collect(from_root_only=True).unreachable == 2
    assert labels(db) == [1, 2, 6, 7, 8]
    with db.session() as s:
        assert s.query(Kept).count() == 0 and s.root["dict"]["a"].label == 6


def test_entries_of_what_is_lost_go_too(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["d"] = {"mine": PersistentDict({n: Knot(label=n) for n in range(20)}), "blob": Blob(b"x" * 200_000)}
    with db.transaction() as s:
        s.root["d"] = None
    assert db.collect().unreachable == 21 + db.collect(dry_run=True).unreachable
    assert labels(db) == []
    with db.session() as s:
        assert list(s._begin().scan("entries")) == []


def test_an_empty_database_has_nothing_to_collect(db: pykesto.Database) -> None:
    assert db.collect().objects == 0


def test_what_is_linked_while_it_is_collected_is_kept(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["top"] = Knot(label=0)
        for n in range(1, 4):
            s.add(Knot(label=n, to=[Knot(label=10 * n)]))
    with db.session(read_only=True) as reader:
        marks, since = mark(reader, from_root_only=False)
    with db.transaction() as s:  # after the marks: one is linked, with what it refers to
        s.root["top"].to.append(s.query(Knot).where(Knot.label == 2).one())
    with db.session() as s:
        assert sweep(s, marks, since, 100) == 4
        with db.transaction() as other:  # and while they are swept
            other.root["top"].to.append(other.query(Knot).where(Knot.label == 3).one())
        with pytest.raises(pykesto.ConcurrencyConflict):
            s.commit()
        s.rollback()
        assert sweep(s, marks, since, 100) == 2
        s.commit()
    marks.close()
    assert labels(db) == [0, 2, 3, 20, 30]


def test_a_random_graph_loses_just_what_a_walk_does_not_reach(db: pykesto.Database) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with db.transaction() as s:
        knots = [s.add(Knot(label=n)) for n in range(120)]
        for knot in knots:
            knot.to = chance.sample(knots, chance.choice([0, 0, 1, 2]))
        s.root["some"] = chance.sample(knots, 5)
        reached: dict[int, Any] = {}
        todo = list(s.root["some"])
        while todo:
            knot = todo.pop()
            if knot.label not in reached:
                reached[knot.label] = knot
                todo += knot.to
    assert db.collect().unreachable == 120 - len(reached), seed
    assert labels(db) == sorted(reached), seed
