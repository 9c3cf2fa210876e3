"""Persistent objects: identity, references, what a class may declare, and what happens to objects when sessions end."""

import functools
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import pytest

import pykesto
from pykesto import ClosedError, CodecError, ConcurrencyConflict, UniqueViolation, UsageError, col

T = TypeVar("T")


class Person(pykesto.Persistent, name="tests.Person"):
    name: str
    age: int = 0
    email: str | None = pykesto.field(index=True, unique=True, default=None)
    friends: list["Person"] = pykesto.field(default_factory=list)
    species: ClassVar[str] = "human"

    @property
    def upper(self) -> str:
        return self.name.upper()


class Student(Person, name="tests.Student"):
    school: str = "none"


class Dog(pykesto.Persistent, name="tests.Dog"):
    name: str = "Rex"


class Point(pykesto.Persistent, name="tests.Point"):
    """Has its own constructor."""

    made: ClassVar[int] = 0

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y
        Point.made += 1


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        yield db


def reopened(db: pykesto.Database) -> pykesto.Database:
    path = db.path
    db.checkpoint()
    db.close()
    return pykesto.open(path)


# Identity and references


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


# Classes


def test_queries_on_a_class_find_its_subclasses(db: pykesto.Database) -> None:
    with db.transaction() as s:
        for obj in Person(name="Ann"), Student(name="Stu", school="MIT"), Dog(name="Ann"):
            s.add(obj)
    with db.session() as s:
        assert sorted(type(p).__name__ for p in s.query(Person)) == ["Person", "Student"]
        assert [p.name for p in s.query(Student)] == ["Stu"]
        assert s.query(Person).where(Person.name == "Ann").count() == 1
        assert s.query(pykesto.Persistent).count() == 3
        assert s.query(Person).where(Person.name == "Stu").one().school == "MIT"


def test_defaults_are_made_anew_for_each_object(db: pykesto.Database) -> None:
    ann, bob = Person(name="Ann"), Person(name="Bob")
    ann.friends.append(bob)
    assert (ann.age, bob.friends, bob.email) == (0, [], None)


def test_a_declared_attribute_without_a_value_stays_unset(db: pykesto.Database) -> None:
    with db.session() as s:
        nameless = s.add(Person())  # type: ignore[call-arg]
        s.commit()
        with pytest.raises(AttributeError):
            assert nameless.name
        assert not s.query(Person).where(col(Person.name).exists()).exists()


@pytest.mark.parametrize("default", [[], {}, set()])
def test_a_mutable_default_is_refused(default: Any) -> None:
    with pytest.raises(UsageError):

        class Plain(pykesto.Persistent, name="tests.mutable"):
            items: Any = default

    with pytest.raises(UsageError):
        pykesto.field(default=default)


def test_a_default_and_a_factory_together_are_refused() -> None:
    with pytest.raises(UsageError):
        pykesto.field(default=1, default_factory=list)


def test_undeclared_attributes_are_stored_and_queried(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann: Any = s.add(Person(name="Ann"))
        ann.nick = "A"
        ann._v_cache = object()
    with db.session() as s:
        found: Any = s.query(Person).where(col("nick") == "A").one()
        assert found.nick == "A"
        assert not hasattr(found, "_v_cache")
        del found.nick
        s.commit()
        assert not hasattr(found, "nick")
        assert s.query(Person).where(col("nick").exists()).count() == 0


def test_methods_properties_and_class_variables_are_plain(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as s:
        ann = s.query(Person).one()
        assert ann.upper == "ANN"
        assert ann.species == "human"


def test_an_own_constructor_is_honoured_and_none_runs_on_load(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Point(1, 2))
    made = Point.made
    with db.session() as s:
        point: Any = s.query(Point).one()
        assert (point.x, point.y) == (1, 2)
    assert Point.made == made


def test_a_class_of_the_same_stored_name_from_another_module_is_refused() -> None:
    with pytest.raises(UsageError, match=r"tests\.Dog"):
        type("Dog", (pykesto.Persistent,), {"__module__": "elsewhere"}, name="tests.Dog")


def test_reserved_names_are_refused(db: pykesto.Database) -> None:
    with pytest.raises(UsageError):

        class Reserved(pykesto.Persistent, name="tests.reserved"):
            k_age: int

    with pytest.raises(AttributeError):
        Person(name="Ann").k_age = 1  # type: ignore[attr-defined]


def test_objects_compare_and_hash_by_identity_and_are_true(db: pykesto.Database) -> None:
    class Empty(pykesto.Persistent, name="tests.Empty"):
        pass

    one, other = Empty(), Empty()
    assert one and one == one and one != other
    assert len({one, other, one}) == 2


def test_an_object_refuses_to_be_pickled_and_says_what_to_pass() -> None:
    with pytest.raises(TypeError, match="k_id"):
        pickle.dumps(Person(name="Ann"))


def test_what_can_not_be_stored_names_the_attribute(db: pykesto.Database) -> None:
    with db.session() as s:
        ann: Any = s.add(Person(name="Ann"))
        ann.lock = [object()]
        with pytest.raises(CodecError, match=r"Person.*object is no type") as caught:
            s.commit()
        assert "lock" in caught.value.path
        ann.lock = None
        s.commit()


# What ends a session does


def test_a_rollback_undoes_changes_and_makes_new_objects_strangers_again(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann", age=40))
    with db.session() as s:
        ann = s.query(Person).one()
        ann.age, ann.name = 1, "X"
        ann.friends.append(ann)
        new = s.add(Person(name="New"))
        s.rollback()
        assert (ann.age, ann.name, ann.friends) == (40, "Ann", [])
        assert s.query(Person).count() == 1
        with pytest.raises(AttributeError):
            assert new.k_id
        assert new.name == "New"
        s.add(new)  # and may be added again
        s.commit()
        assert s.query(Person).count() == 2


def test_a_deletion_is_undone_by_a_rollback(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as s:
        ann = s.query(Person).one()
        s.delete(ann)
        assert s.query(Person).count() == 0
        assert s.get(Person, ann.k_id) is None
        with pytest.raises(UsageError):
            ann.age = 1
        s.rollback()
        assert s.query(Person).one() is ann
        ann.age = 5
        s.commit()
        assert ann.age == 5


def test_an_object_reads_the_new_snapshot_after_a_commit(db: pykesto.Database) -> None:
    with db.session() as s:
        ann = s.add(Person(name="Ann"))
        s.commit()
        with db.transaction() as other:
            other.query(Person).one().age = 41
        assert ann.age == 41


def test_what_was_loaded_stays_readable_after_close_and_nothing_more(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann = s.add(Person(name="Ann", friends=[Person(name="Bob")]))
    assert (ann.name, ann.age) == ("Ann", 0)
    assert ann.friends[0].name == "Bob"
    with db.session() as s:
        ann = s.query(Person).where(Person.name == "Ann").one()
        assert ann.name == "Ann"
        bob = ann.friends[0]
    assert ann.name == "Ann"
    with pytest.raises(ClosedError):
        assert bob.name  # was not loaded
    with pytest.raises(ClosedError):
        ann.age = 1
    with pytest.raises(ClosedError):
        ann.friends.append(ann)
    assert (ann.age, len(ann.friends)) == (0, 1)


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


def test_what_a_class_computes_and_keeps_is_not_stored(db: pykesto.Database) -> None:
    class Circle(pykesto.Persistent, Generic[T], name="tests.Circle"):
        radius: int = 1

        @functools.cached_property
        def area(self) -> float:
            return 3.0 * self.radius**2

    with db.transaction() as s:
        circle = s.add(Circle[int](radius=2))  # which sets __orig_class__
        assert circle.area == 12
    with db.transaction() as s:
        circle = s.query(Circle).one()
        assert circle.__dict__ == {"radius": 2}
        circle.radius = 3
        assert circle.area == 27


def test_an_order_by_another_objects_attribute_is_refused(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(UsageError, match="sort in Python"):
        s.query(Person).order_by(Person.friends.name)  # type: ignore[attr-defined]


def test_what_is_no_id_is_refused(db: pykesto.Database) -> None:
    with db.session() as s:
        with pytest.raises(UsageError, match="k_id"):
            s.get(Person, "nonsense")
        with pytest.raises(TypeError):
            s.get(Person, 5)  # type: ignore[arg-type]


def test_an_object_of_another_session_is_refused_everywhere(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as one, db.session() as other:
        ann = one.query(Person).one()
        bob = other.add(Person(name="Bob"))
        with pytest.raises(UsageError, match=r"s\.get\(Person"):
            other.add(ann)
        with pytest.raises(UsageError):
            other.delete(ann)
        bob.friends = [ann]
        with pytest.raises(UsageError, match=r"s\.get\(Person"):
            other.commit()
        bob.friends = [other.get(Person, ann.k_id)]  # type: ignore[list-item]
        other.commit()


def test_an_object_of_another_session_is_refused_as_an_operand(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann"))
    with db.session() as one, db.session() as other:
        ann = one.query(Person).one()
        with pytest.raises(UsageError, match=r"s\.get\(Person"):
            list(other.query(Person).where(col("friend") == ann))


def test_two_sessions_that_change_an_object_conflict_and_name_its_id(db: pykesto.Database) -> None:
    with db.transaction() as s:
        k_id = s.add(Person(name="Ann")).k_id
    with db.session() as one, db.session() as other:
        for s in one, other:
            s.query(Person).one().age += 1
        one.commit()
        with pytest.raises(ConcurrencyConflict) as caught:
            other.commit()
        assert caught.value.conflicts[0].key == k_id
        other.rollback()


def test_sessions_that_add_objects_do_not_conflict(db: pykesto.Database) -> None:
    with db.session() as one, db.session() as other:
        for s in one, other:
            s.add(Person(name="same", friends=[Person(name="friend")]))
        one.commit()
        other.commit()
    with db.session() as s:
        assert s.query(Person).count() == 4


# Unique fields


def test_a_unique_field_refuses_an_equal_value_and_none_never_collides(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann = s.add(Person(name="Ann", email="a@x"))
        s.add(Person(name="none"))
        s.add(Person(name="none too"))
    with db.session() as s:
        s.add(Person(name="Bob", email="a@x"))
        with pytest.raises(UniqueViolation) as caught:
            s.commit()
        assert (caught.value.column, caught.value.value, caught.value.key) == ("email", "a@x", ann.k_id)
        s.rollback()


def test_a_subclass_shares_the_unique_field(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann", email="a@x"))
    with pytest.raises(UniqueViolation), db.transaction() as s:
        s.add(Student(name="Stu", email="a@x"))


def test_an_indexed_field_is_found_by_its_index(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann", email="a@x"))
    db.checkpoint()
    with db.session() as s:
        query = s.query(Person).where(Person.email == "a@x")
        assert "index on 'email'" in query.explain()
        assert query.one().name == "Ann"


class Card(pykesto.Persistent, name="tests.Card"):
    number: str = pykesto.field(unique=True)


class House(pykesto.Persistent, name="tests.House"):
    number: str = ""


class Named(pykesto.Persistent, name="tests.Named"):
    name: str = pykesto.field(unique=True)


def test_a_unique_field_of_one_class_says_nothing_of_another_class(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Card(number="1"))
    with db.transaction() as s:
        s.add(House(number="1"))
        s.add(House(number="1"))


def test_a_unique_name_says_nothing_of_the_names_in_the_root(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["config"] = 1
    with db.transaction() as s:
        s.add(Named(name="config"))


# The root


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


# Refresh, new, dirty, deleted


def test_refresh_drops_unsaved_changes(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Ann", age=40))
    with db.session() as s:
        ann = s.query(Person).one()
        ann.age = 1
        s.refresh(ann)
        assert ann.age == 40
        assert s.dirty == ()
        assert s.commit() == db.version


def test_new_dirty_and_deleted_name_the_objects(db: pykesto.Database) -> None:
    with db.transaction() as s:
        for name in "Ann", "Bob":
            s.add(Person(name=name))
    with db.session() as s:
        ann, bob = s.query(Person).order_by("name")
        new = s.add(Person(name="New"))
        ann.age = 1
        s.delete(bob)
        assert (s.new, s.dirty, s.deleted) == ((new,), (ann,), (bob,))
        s.commit()
        assert [p.name for p in s.query(Person).order_by("name")] == ["Ann", "New"]


def test_an_object_that_refers_to_one_deleted_in_the_same_session_can_be_changed(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Person(name="Bob", friends=[Person(name="Ann")]))
    with db.transaction() as s:
        s.delete(s.query(Person).where(Person.name == "Ann").one())
        s.query(Person).where(Person.name == "Bob").one().age = 5  # as it can be in the next session


# Native queries


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


def test_a_native_query_conflicts_with_a_phantom(db: pykesto.Database) -> None:
    with db.session() as s:
        assert not list(s.query(Person, lambda p: p.age >= 18))
        s.add(Dog())
        with db.transaction() as other:
            other.add(Person(name="Ann", age=40))
        with pytest.raises(ConcurrencyConflict):
            s.commit()
        s.rollback()
