"""Classes that change while their objects stay: renamed, extended, upgraded, unknown; and classes of other kinds."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

import pykesto
from pykesto import UsageError
from pykesto.objects import registry


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test defines is of no concern to the next, as if that ran other code."""
    before = dict(registry.classes)
    yield
    registry.classes.clear()
    registry.classes.update(before)


def forget(*names: str) -> None:
    """Go on as code that does not have these classes."""
    for name in names:
        del registry.classes[name]
    registry.register(type("Tick", (pykesto.Persistent,), {}, name="evolve.tick"), ())


def define(text: str) -> Any:
    """A class as one release of the program has it."""
    names: dict[str, Any] = {"pykesto": pykesto, "__name__": __name__}
    exec(text, names)
    return names["P"]


ONE = """
class P(pykesto.Persistent, name="evolve.P"):
    name: str
    age: int = 0
"""

TWO = """
class P(pykesto.Persistent, name="evolve.P"):
    first: str = pykesto.field(index=True)
    last: str
    age: int = 0
    tags: list = pykesto.field(default_factory=list)

    @pykesto.upgrade(from_version=1)
    def _split(self):
        self.first, self.last = self.name.split()
        del self.name
"""

THREE = (
    TWO.replace("age: int = 0\n", "months: int\n")
    + """
    @pykesto.upgrade(from_version=2)
    def _finer(self):
        self.months = self.__dict__.pop("age", 0) * 12
"""
)


# Attributes


def test_an_attribute_that_was_added_has_its_default_and_one_that_was_removed_stays(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(define(ONE)(name="Ann", age=3))
    cls = define(
        'class P(pykesto.Persistent, name="evolve.P"):\n name: str\n tags: list = pykesto.field(default_factory=list)'
    )
    with db.session() as s:
        ann = s.query(cls).one()
        assert (ann.name, ann.tags, ann.age) == ("Ann", [], 3)
        ann.tags.append("new")
        s.commit()
    with db.session() as s:
        ann = s.query(cls).one()
        assert (ann.name, ann.tags, ann.age) == ("Ann", ["new"], 3)


def test_a_renamed_attribute_is_found_under_both_names_by_old_and_new_code(db: pykesto.Database) -> None:
    old = define(ONE)
    with db.transaction() as s:
        s.add(old(name="Ann"))
    new = define('class P(pykesto.Persistent, name="evolve.P"):\n label: str = pykesto.field(was="name", index=True)')
    with db.transaction() as s:
        ann = s.query(new).where(new.label == "Ann").one()
        assert ann.label == "Ann" and not hasattr(ann, "name")
        assert s.query(new, lambda p: p.label == "Ann").count() == 1
        assert s.query(new(label="Ann")).one() is ann
        assert s.query(new).order_by("label").select("label") == [("Ann",)]
        ann.label = "Zoe"
    old = define(ONE)
    with db.session() as s:
        assert s.query(old).where(old.name == "Zoe").one().name == "Zoe"


# Classes


def test_a_renamed_class_finds_its_objects(db: pykesto.Database) -> None:
    with db.transaction() as s:
        first = s.add(define(ONE)(name="Ann"))
    forget("evolve.P")
    new = define(ONE.replace('name="evolve.P"', 'name="evolve.Person", formerly="evolve.P"'))
    with db.transaction() as s:
        ann = s.get(new, first.k_id)
        assert type(ann) is new and s.query(new).one() is ann
        ann.age = 1
        s.add(new(name="Bob"))
    with db.session() as s:
        assert sorted(p.name for p in s.query(new)) == ["Ann", "Bob"]
        assert [p.name for p in s.query(new, lambda p: p.age == 1)] == ["Ann"]


def test_a_name_that_a_class_of_another_module_has_is_no_former_name() -> None:
    define(ONE)
    with pytest.raises(UsageError, match="can't have been"):
        type("P", (pykesto.Persistent,), {"__module__": "elsewhere"}, name="evolve.Other", formerly=("evolve.P",))


def test_objects_of_an_unknown_class_are_generic_and_survive(db: pykesto.Database) -> None:
    cls = define(ONE)
    with db.transaction() as s:
        ann = s.add(cls(name="Ann", age=1))
        s.root["ann"] = ann
        k_id = ann.k_id
    forget("evolve.P")
    with db.transaction() as s:
        ann = s.root["ann"]
        assert isinstance(ann, pykesto.Generic) and type(ann).__name__ == "evolve.P"
        assert (ann.name, ann.age) == ("Ann", 1)
        assert s.get(pykesto.Generic, k_id) is ann
        assert s.query(pykesto.Persistent).count() == 1
        ann.nick = "A"
    cls = define(ONE)
    with db.session() as s:
        ann = s.query(cls).one()
        assert type(ann) is cls and (ann.name, ann.age, ann.nick) == ("Ann", 1, "A")


# Upgrades


def stored_by_one(db: pykesto.Database, count: int = 1) -> None:
    cls = define(ONE)
    with db.transaction() as s:
        for n in range(count):
            s.add(cls(name=f"Ann N{n}", age=n))


def test_objects_are_upgraded_when_they_are_loaded_one_version_after_the_other(db: pykesto.Database) -> None:
    stored_by_one(db, 3)
    cls = define(THREE)
    with db.session(read_only=True) as s:
        found = s.query(cls).order_by("months")
        assert [(p.first, p.last, p.months) for p in found] == [("Ann", "N0", 0), ("Ann", "N1", 12), ("Ann", "N2", 24)]
        assert not hasattr(found.first(), "name")
        assert s.dirty == ()


def test_queries_see_what_is_upgraded_before_it_is_written(db: pykesto.Database) -> None:
    stored_by_one(db, 3)
    cls = define(TWO)
    with db.session() as s:
        assert s.query(cls).where(cls.last == "N1").one().age == 1
        assert s.query(cls).where(pykesto.col("name").exists()).count() == 0
        assert s.query(cls, lambda p: p.last == "N2").count() == 1
        s.query(cls).where(cls.last == "N1").one().age = 10
        s.commit()
        assert s.query(cls).where(cls.last == "N1").one().age == 10


def test_what_was_upgraded_and_then_undone_is_upgraded_again(db: pykesto.Database) -> None:
    stored_by_one(db)
    cls = define(TWO)
    with db.session() as s:
        with pytest.raises(KeyError), s.savepoint():
            delete_and_fail(s, cls)
        assert [(p.first, p.last) for p in s.query(cls).where(cls.last == "N0")] == [("Ann", "N0")]
        s.query(cls).one().age = 7
        s.rollback()
        assert [(p.first, p.age) for p in s.query(cls)] == [("Ann", 0)]


def delete_and_fail(s: pykesto.Session, cls: Any) -> None:
    s.query(cls).one().tags.append("x")
    s.delete(s.query(cls).one())
    raise KeyError


def test_an_upgrade_in_bulk_writes_all_in_batches(db: pykesto.Database) -> None:
    stored_by_one(db, 25)
    cls = define(TWO)
    told: list[int] = []
    assert db.upgrade(cls, batch=10, progress=told.append) == 25
    assert told == [10, 20, 25]
    assert db.upgrade(cls) == 0
    db.checkpoint()  # one that came before the upgrade has made a base without its indexes
    with db.session() as s:
        assert s.query(cls).where(cls.first == "Ann").count() == 25
        assert "index on 'first'" in s.query(cls).where(cls.first == "Ann").explain()


def test_old_and_new_code_work_side_by_side(db: pykesto.Database) -> None:
    stored_by_one(db)
    new = define(TWO)
    with db.transaction() as s:
        s.query(new).one().tags.append("x")  # written as version 2
    old = define(ONE)
    with db.transaction() as s:
        ann = s.query(old).one()
        assert ann.tags == ["x"]  # old code has what new code stored
        ann.age = 50
        s.add(old(name="Bob B", age=1))
    new = define(TWO)
    with db.session() as s:
        assert sorted((p.first, p.age, p.tags) for p in s.query(new)) == [("Ann", 50, ["x"]), ("Bob", 1, [])]


def test_an_upgrade_of_a_base_goes_for_the_classes_below_it(db: pykesto.Database) -> None:
    below = '\n\nclass Q(P, name="evolve.Q"):\n    school: str\nP.Q = Q\n'
    with db.transaction() as s:
        s.add(define(ONE + below).Q(name="Ann A", school="x"))
    cls = define(TWO + below)
    with db.session() as s:
        assert s.query(cls).where(cls.last == "A").one().school == "x"
        assert db.upgrade(cls) == 1


def test_a_query_finds_an_attribute_that_nobody_has_stored_before(db: pykesto.Database) -> None:
    cls = define(ONE)
    with db.session() as s:
        assert s.query(cls).where(pykesto.col("brand_new") == 1).count() == 0
        s.add(cls(name="Ann")).brand_new = 1
        assert s.query(cls).where(pykesto.col("brand_new") == 1).count() == 1
    with db.session(read_only=True) as s:
        assert s.query(cls).order_by("never_stored").count() == 0


def test_a_query_conflicts_with_what_has_names_that_were_unknown(db: pykesto.Database) -> None:
    cls = define(ONE)
    with db.transaction() as s:
        s.add(cls(name="Ann"))
    with db.session() as s:
        assert s.query(cls).where(pykesto.col("brand_new") == 1).count() == 0
        s.add(cls(name="Bob"))
        with db.transaction() as other:
            other.add(cls(name="Eve")).brand_new = 1
        with pytest.raises(pykesto.ConcurrencyConflict):
            s.commit()
        s.rollback()


def test_versions_that_can_not_be_are_refused() -> None:
    with pytest.raises(UsageError):
        pykesto.upgrade(from_version=0)
    with pytest.raises(UsageError):
        define(TWO.replace('name="evolve.P"', 'name="evolve.P", version=1'))


def test_a_unique_field_holds_across_versions(db: pykesto.Database) -> None:
    text = 'class P(pykesto.Persistent, name="evolve.P"):\n  email: str = pykesto.field(unique=True)\n'
    with db.transaction() as s:
        s.add(define(text)(email="a"))
    cls = define(text + "  @pykesto.upgrade(from_version=1)\n  def _up(self): pass\n")
    with pytest.raises(pykesto.UniqueViolation) as caught, db.transaction() as s:
        s.add(cls(email="a"))
    assert (caught.value.table, caught.value.column) == ("evolve.P", "email")


# Other kinds of classes


@pykesto.persistent
class Plain:
    """Any class."""

    made = 0
    size: int = 3

    def __init__(self, name: str) -> None:
        self.name = name
        Plain.made += 1

    def shout(self) -> str:
        return self.name.upper()


@pykesto.persistent(name="evolve.Data")
@dataclasses.dataclass
class Data:
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)
    number: int = dataclasses.field(default=0, metadata={"pykesto": pykesto.field(index=True)})


@pykesto.persistent
@dataclasses.dataclass(slots=True)
class Slotted:
    name: str
    other: Any = None


class Above:
    def told(self) -> str:
        return "above"


@pykesto.persistent
class Below(Above):
    __slots__ = ("x",)

    def told(self) -> str:
        return super().told() + " and below"


@pykesto.persistent
@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    age: int = 0


@pytest.mark.parametrize("cls", [Plain, Data, Slotted, Frozen])
def test_other_classes_are_stored_and_found(db: pykesto.Database, cls: Any) -> None:
    with db.transaction() as s:
        ann = s.add(cls("Ann"))
        assert isinstance(ann, cls) and ann == ann and ann != cls("Ann")
        s.add(cls("Bob"))
    made = Plain.made
    with db.session() as s:
        found = s.query(cls).where(cls.name == "Ann") if cls is not Plain else s.query(cls, lambda p: p.name == "Ann")
        assert found.one().name == "Ann" and type(found.one()) is cls
        assert {found.one()} == {found.one()}
    assert Plain.made == made


def test_changes_of_other_classes_are_seen(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["data"] = Data("Ann")
        s.root["plain"] = Plain("Ann")
        s.root["slotted"] = Slotted("Ann", Data("Bob", number=7))
        s.root["frozen"] = Frozen("Ann")
    with db.transaction() as s:
        s.root["data"].tags.append("x")
        s.root["plain"].name = "Bob"
        s.root["slotted"].other.number += 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            s.root["frozen"].age = 5
        assert s.root["frozen"].age == 0
    with db.session() as s:
        assert s.root["data"].tags == ["x"] and s.root["plain"].shout() == "BOB" and s.root["plain"].size == 3
        assert s.query(Data).where(Data.number == 8).one() is s.root["slotted"].other  # type: ignore[arg-type]
        below = s.add(Below())
        below.x = 1
        assert below.told() == "above and below" and below.__dict__ == {"x": 1}
        assert dataclasses.asdict(Data("x")) == {"name": "x", "tags": [], "number": 0}


def test_classes_of_attrs_are_stored(db: pykesto.Database) -> None:
    attrs = pytest.importorskip("attrs")

    @pykesto.persistent(name="evolve.Attrs")
    @attrs.define
    class Thing:
        name: str
        age: int = attrs.field(default=0, validator=attrs.validators.ge(0))
        tags: list[str] = attrs.Factory(list)

    with db.transaction() as s:
        s.root["thing"] = Thing("Ann")
    with db.transaction() as s:
        thing = s.root["thing"]
        thing.tags.append("x")
        thing.age = 4
        with pytest.raises(ValueError, match="age"):
            thing.age = -1
    with db.session() as s:
        assert (s.root["thing"].age, s.root["thing"].tags) == (4, ["x"])
        assert s.query(Thing).where(Thing.age == 4).count() == 1


@pykesto.persistent
@dataclasses.dataclass(frozen=True)
class Framed(Frozen):
    """A dataclass below one that is persistent."""

    frame: str = "oak"
    knots: list[int] = dataclasses.field(default_factory=list)


@pykesto.persistent
class Narrow(Plain):
    """A plain class below one that is persistent."""

    width: int = 1


def test_classes_below_have_the_same_decorators(db: pykesto.Database) -> None:
    assert Framed("x").frame == "oak" and Narrow("x").width == 1
    with db.transaction() as s:
        s.root["framed"] = framed = Framed("Ann", 5, "elm")
        framed.knots.append(1)
        s.add(Narrow("Bob"))
        assert framed == framed and hash(framed) and framed != Framed("Ann", 5, "elm", [1])
    with db.session() as s:
        found = s.query(Frozen).where(Framed.frame == "elm").one()  # type: ignore[arg-type]
        assert (found.name, found.age, found.frame, found.knots) == ("Ann", 5, "elm", [1])
        assert dataclasses.asdict(found) == {"name": "Ann", "age": 5, "frame": "elm", "knots": [1]}
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.frame = "ash"
        assert s.query(Plain).where(Narrow.width == 1).one().shout() == "BOB"  # type: ignore[arg-type]


def test_what_can_not_be_made_persistent_is_refused() -> None:
    with pytest.raises(TypeError):
        pykesto.persistent(5)  # type: ignore[type-var]
    with pytest.raises(UsageError, match="class statement"):
        pykesto.persistent(name="other")(Data)
    with pytest.raises(UsageError, match="__slots__"):
        type("Slotted", (pykesto.Persistent,), {"__slots__": ("x",)})

    class Slots:
        __slots__ = ("x",)

    class More(Slots):
        __slots__ = ("y",)

    with pytest.raises(UsageError, match="__slots__"):
        pykesto.persistent(More)


def test_nothing_is_imported_because_data_names_it(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(type("subprocess.Popen", (pykesto.Persistent,), {}, name="subprocess.Popen")())
    forget("subprocess.Popen")
    with db.session() as s:
        assert isinstance(s.query(pykesto.Persistent).one(), pykesto.Generic)
