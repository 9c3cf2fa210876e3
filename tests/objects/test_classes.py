"""What a persistent class may declare, what it refuses, and what it shares with its subclasses."""

import functools
import pickle
from typing import Any, ClassVar, Generic, TypeVar

import pytest

import pykesto
from pykesto import CodecError, UniqueViolation, UsageError, col
from tests.objects.people import Dog, Person, Student

T = TypeVar("T")


class Point(pykesto.Persistent, name="tests.Point"):
    """Has its own constructor."""

    made: ClassVar[int] = 0

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y
        Point.made += 1


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


def test_an_attribute_that_was_deleted_is_missing_though_it_has_a_default(db: pykesto.Database) -> None:
    with db.session() as s:
        ann, unset = s.add(Person(name="Ann")), Person(name="Bob", age=pykesto.Unset)
        s.commit()
        stored = s.query(Person).where(Person.name == "Ann").one()
        for person, attribute in (s.add(Person(name="Eve")), "age"), (ann, "email"), (stored, "friends"):
            delattr(person, attribute)
            with pytest.raises(AttributeError):
                getattr(person, attribute)
            person.name = "Zoe"
            with pytest.raises(AttributeError):
                getattr(person, attribute)
            setattr(person, attribute, None)
            assert getattr(person, attribute) is None
        with pytest.raises(AttributeError):
            assert unset.age


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
