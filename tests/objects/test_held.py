"""Where the attributes of objects are: where the interpreter has those of any object, whatever was done to them."""

import dis
import gc
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pykesto


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        yield db


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x


class Held(pykesto.Persistent, name="held.Held"):
    x: int
    other: Any = None


class Loose(pykesto.Persistent, name="held.Loose"):
    """Nothing is declared; `guarded` is in the way of what is stored under that name."""

    @property
    def guarded(self) -> str:
        return "of the class"

    @guarded.setter
    def guarded(self, value: Any) -> None:
        raise AssertionError("nobody asked for it")


def reader() -> Callable[[list[Any]], int]:
    """A function of its own, which nothing else has warmed up."""
    found: dict[str, Any] = {}
    exec("def read(objects):\n    total = 0\n    for one in objects:\n        total += one.x\n    return total", found)
    read: Callable[[list[Any]], int] = found["read"]
    return read


def ways(read: Any) -> list[str]:
    """How the interpreter reads attributes in a function by now."""
    return [one.opname for one in dis.get_instructions(read, adaptive=True) if "ATTR" in one.opname]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later ones make a dict when an object changes its class")
def test_attributes_are_read_as_those_of_plain_objects(db: pykesto.Database) -> None:
    plain = reader()
    for _ in range(50):
        plain([Plain(1)] * 20)
    with db.transaction() as s:
        new = [s.add(Held(x=number)) for number in range(100)]
        read = reader()
        for _ in range(50):
            assert read(new) == 4950
        assert ways(read) == ways(plain) == ["LOAD_ATTR_INSTANCE_VALUE"]
    with db.session() as s:
        loaded = list(s.query(Held))
        read = reader()
        for _ in range(50):
            assert read(loaded) == 4950
        assert ways(read) == ways(plain)
        for one in loaded:
            one.x += 1
        s.commit()
        for _ in range(200):  # each is looked at anew, and found unchanged
            assert read(loaded) == 5050
        assert ways(read) == ways(plain)
        s.refresh(loaded[0])
        for _ in range(50):
            assert read(loaded) == 5050
        assert ways(read) == ways(plain)


def stored(obj: Any) -> dict[str, Any]:
    return {name: value for name, value in obj.__dict__.items() if not name.startswith("_v_")}


def test_attributes_may_be_any_and_many(db: pykesto.Database) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    names = [f"a{number}" for number in range(45)] + ["_v_own"]
    models: list[dict[str, Any]] = [{} for _ in range(40)]
    with db.transaction() as s:
        s.root["all"] = [Loose() for _ in models]
    for _ in range(12):
        with db.session() as s:
            objects = s.root["all"]
            for _ in range(60):
                at = chance.randrange(len(models))
                obj, model, name = objects[at], models[at], chance.choice(names[: chance.choice((3, 8, 46))])
                match chance.randrange(6):
                    case 0 | 1 | 2:
                        value = chance.choice([chance.random(), [at], None, objects[0]])
                        setattr(obj, name, value)
                        if name[0] == "a":
                            model[name] = 0 if value is objects[0] else value
                    case 3 if name in model:
                        delattr(obj, name)
                        del model[name]
                    case 4:
                        found = {n: 0 if v is objects[0] else v for n, v in stored(obj).items()}
                        assert found == model, seed
                    case 5:
                        assert (name in model) == (name != "_v_own" and hasattr(obj, name)), seed
            s.commit()
            for obj, model in zip(objects, models, strict=True):
                assert {n: 0 if v is objects[0] else v for n, v in stored(obj).items()} == model, seed


def test_what_a_class_puts_in_the_way_of_an_attribute_is_not_asked(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["loose"] = loose = Loose()
        loose.first = 1  # type: ignore[attr-defined]
        loose.__dict__["guarded"] = "of the object"
    with db.session() as s:
        loose = s.root["loose"]
        assert loose.guarded == "of the class"
        assert loose.__dict__ == {"first": 1, "guarded": "of the object"}
        del loose.guarded
        s.commit()
        assert loose.__dict__ == {"first": 1}


def test_an_unread_object_takes_what_is_not_stored_and_is_still_read(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["loose"] = loose = Loose()
        loose.first = 1  # type: ignore[attr-defined]
    with db.session() as s:
        loose = s.root["loose"]
        loose._v_own = 2
        assert not pykesto.is_loaded(loose)
        assert (loose.first, loose._v_own) == (1, 2)


def test_cycles_through_attributes_are_collected(db: pykesto.Database) -> None:
    with db.transaction() as s:
        one = Held(x=1)
        s.root["one"] = one
        one.other = Held(x=2, other=[one])
    s = db.session()
    one = s.root["one"]
    gone = [weakref.ref(one), weakref.ref(one.other)]
    assert one.other.other[0] is one
    s.close()
    del s, one
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
