"""The root: names of values and objects."""

import pytest

import pykesto
from pykesto import ConcurrencyConflict
from tests.objects.people import Dog, Person, reopened


def test_the_root_maps_names_to_values_and_objects(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["people"] = {"first": Person(name="Ann")}
        s.root["count"] = 1
        s.root["dog"] = Dog()
    with reopened(db) as db:
        with db.transaction() as s:
            assert s.root["people"]["first"].name == "Ann"
            assert (sorted(s.root), len(s.root)) == (["count", "dog", "people"], 3)
            assert "count" in s.root and "nothing" not in s.root
            s.root["people"]["second"] = s.root["people"]["first"]
            s.root["count"] += 1
            del s.root["dog"]
            with pytest.raises(KeyError):
                s.root["dog"]
            with pytest.raises(KeyError):
                del s.root["dog"]
            with pytest.raises(TypeError):
                s.root[1] = 1  # type: ignore[index]
        with db.session() as s:
            assert s.root["people"]["second"] is s.root["people"]["first"]
            assert dict(s.root)["count"] == 2
            assert s.query(Dog).count() == 1  # only its name is gone


def test_two_sessions_that_set_the_same_name_in_the_root_conflict(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        for s in one, other:
            s.root["config"] = 1
        one.commit()
        with pytest.raises(ConcurrencyConflict):
            other.commit()
        other.rollback()


def test_setdefault_of_the_root_gives_the_tracked_value(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root.setdefault("log", []).append(1)
    with db.session() as s:
        assert s.root["log"] == [1]


def test_entries_of_the_root_are_no_objects_of_the_user(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["dog"] = Dog()
    with db.session() as s:
        assert s.query(pykesto.Persistent).count() == 1
