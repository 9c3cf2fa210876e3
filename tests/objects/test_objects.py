"""Persistent objects: identity, references, what is found and stored with them."""

import uuid
from typing import Any

import pytest

import pykesto
from pykesto import UsageError, col
from tests.objects.people import Dog, Person, reopened


def test_an_object_is_one_object_within_a_session(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = s.add(Person(name="Ann"))
        s.commit()
        assert s.get(Person, ann.k_id) is ann
        assert s.get(Person, str(ann.k_id)) is ann
        assert s.query(Person).one() is ann
        assert s.add(ann) is ann
    with db.session() as s:
        one = s.query(Person).one()
        assert one is not ann
        assert one is s.get(Person, ann.k_id) is s.query(Person).first()


def test_references_and_cycles_survive_reopening(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann, bob = Person(name="Ann"), Person(name="Bob")
        ann.friends, bob.friends = [bob, ann], [ann]
        s.add(ann)  # bob is stored with her
    with reopened(db) as db, db.session() as s:
        found = s.query(Person).where(Person.name == "Ann").one()
        assert found.friends[1] is found
        assert found.friends[0].name == "Bob"
        assert found.friends[0].friends[0] is found


def test_references_in_any_container_are_kept(db: pykesto.Database) -> None:
    with db.transaction() as s:
        rex = Dog()
        ann: Any = Person(name="Ann")
        ann.places = {"list": [[rex]], "tuple": (1, rex), "dict": {"rex": rex}}
        ann.dog = rex
        s.add(ann)
    with reopened(db) as db, db.session() as s:
        ann, rex = s.query(Person).one(), s.query(Dog).one()
        assert ann.dog is rex
        assert ann.places == {"list": [[rex]], "tuple": (1, rex), "dict": {"rex": rex}}


def test_an_object_changed_through_a_reference_is_stored(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Bob", friends=[Person(name="Ann", age=40)]))
    with db.transaction() as s:
        s.query(Person).where(Person.name == "Bob").one().friends[0].age += 1
    with db.session() as s:
        assert s.query(Person).where(Person.name == "Ann").one().age == 41


def test_changes_of_containers_in_place_are_stored(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann: Any = s.add(Person(name="Ann"))
        ann.deep = {"list": [[]]}
    with db.transaction() as s:
        ann = s.query(Person).one()
        ann.deep["list"][0].append(Dog(name="Fido"))
        ann.friends.append(ann)
    with db.session() as s:
        ann = s.query(Person).one()
        assert ann.deep["list"][0][0].name == "Fido"
        assert ann.friends == [ann]


def test_a_query_by_reference_finds_who_refers(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Bob", friends=[Person(name="Ann")]))
    with db.session() as s:
        ann = s.query(Person).where(Person.name == "Ann").one()
        assert s.query(Person).where(col(Person.friends).contains(ann)).one().name == "Bob"


def test_a_query_by_reference_in_an_undeclared_attribute_finds_who_refers(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann: Any = s.add(Person(name="Ann"))
        ann.dog = Dog()
    with db.session() as s:
        assert s.query(Person).where(col("dog") == s.query(Dog).one()).one().name == "Ann"


def test_a_reference_to_a_deleted_object_says_so_when_it_is_touched(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Bob", friends=[Person(name="Ann")]))
    with db.transaction() as s:
        s.delete(s.query(Person).where(Person.name == "Ann").one())
    with db.session() as s:
        bob = s.query(Person).one()
        dangling = bob.friends[0]
        with pytest.raises(KeyError) as caught:
            assert dangling.name
        assert str(dangling.k_id) in str(caught.value)
        bob.age = 1  # and the rest of him is fine
        s.commit()
        bob.friends.clear()
        s.commit()


def test_get_gives_none_for_what_is_not_there_or_of_another_class(db: pykesto.Database) -> None:
    with db.transaction() as s:
        rex = s.add(Dog())
        assert s.get(Dog, uuid.uuid4()) is None
        assert s.get(Person, rex.k_id) is None
        assert s.get(pykesto.Persistent, rex.k_id) is rex
        with pytest.raises(TypeError):
            s.get(Dog, 5)  # type: ignore[arg-type]


def test_the_id_is_of_version_7_and_set_by_add(db: pykesto.Database) -> None:
    ann = Person(name="Ann")
    with pytest.raises(AttributeError):
        assert ann.k_id
    with db.session() as s:
        s.add(ann)
        assert ann.k_id.version == 7
        assert ann.k_version is None
        number = s.commit()
        assert ann.k_version == number
        assert s.query(Person).one().k_version == number


def test_a_bytearray_is_tracked_wherever_it_is(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann: Any = s.add(Person(name="Ann"))
        ann.raw, ann.parts = bytearray(b"a"), [bytearray(b"b")]
        s.root["large"] = pykesto.PersistentDict({"c": bytearray(b"c")})
    with db.transaction() as s:
        ann = s.query(Person).one()
        ann.raw.append(1)
        ann.parts[0] += b"2"
        s.root["large"]["c"].extend(b"3")
    with db.session() as s:
        ann = s.query(Person).one()
        assert (ann.raw, ann.parts, s.root["large"]["c"]) == (b"a\x01", [b"b2"], b"c3")


def test_an_order_by_another_objects_attribute_is_refused(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(UsageError, match="sort in Python"):
        s.query(Person).order_by(Person.friends.name)  # type: ignore[attr-defined]


def test_what_is_no_id_is_refused(db: pykesto.Database) -> None:
    with db.session() as s:
        with pytest.raises(UsageError, match="k_id"):
            s.get(Person, "nonsense")
        with pytest.raises(TypeError):
            s.get(Person, 5)  # type: ignore[arg-type]


def test_a_native_query_gives_what_a_loop_would(db: pykesto.Database) -> None:
    with db.transaction() as s:
        for n in range(10):
            person: Any = s.add(Person(name=f"P{n}", age=n * 10))
            if n % 2:
                person.nick = None if n == 3 else f"N{n}"
    predicates = [
        lambda p: p.age >= 50,
        lambda p: p.age >= 50 and p.name.startswith("P7"),
        lambda p: 20 < p.age < 60 or p.name == "P0",
        lambda p: not p.age,
        lambda p: p.nick is None,
        lambda p: p.nick == "N5",
        lambda p: p.nick[0] == "N",
        lambda p: p.name in ("P1", "P2"),
        lambda p: len(p.name) == 2 and p.age % 20 == 0,
    ]
    with db.session() as s:
        everyone = list(s.query(Person))
        for predicate in predicates:
            expected = []
            for person in everyone:
                try:
                    if predicate(person):
                        expected.append(person.name)
                except (AttributeError, TypeError, LookupError):
                    pass
            assert sorted(p.name for p in s.query(Person, predicate)) == sorted(expected)
            assert s.query(Person).where(predicate).count() == len(expected)
