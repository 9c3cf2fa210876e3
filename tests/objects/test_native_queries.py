"""Native queries, conditions through references, and examples give what a loop over all objects gives."""

import datetime as dt
import fnmatch
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import Unset, UsageError, col


class Being(pykesto.Persistent, name="native.Being"):
    name: str = pykesto.field(index=True)
    age: int = pykesto.field(index=True, default=0)
    nick: str | None = None
    pal: "Being" = None  # type: ignore[assignment]
    friends: list["Being"] = pykesto.field(default_factory=list)
    address: dict[str, Any] = pykesto.field(default_factory=dict)

    @property
    def initial(self) -> str:
        return self.name[0]

    @property
    def is_adult(self) -> bool:
        return self.age >= 18

    def older_than(self, years: int) -> bool:
        return self.age > years


class Pupil(Being, name="native.Pupil"):
    school: str = "none"


ODD: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.0,
    18,
    "18",
    "",
    "Ann",
    b"Ann",
    [],
    ["Ann"],
    {"city": "Bonn"},
    float("nan"),
]


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            people: list[Any] = []
            for n in range(40):
                cls = Pupil if n % 5 == 0 else Being
                people.append(cls(name=f"{'ABC'[n % 3]}{n}", age=n * 3, nick=None if n % 4 else f"N{n}"))
                s.add(people[-1])
            for n, person in enumerate(people):
                person.pal = person if n % 7 == 0 else None if n % 3 == 0 else people[n - 1]
                person.friends = people[n + 1 : n + 3]
                person.address = {"city": "Bonn" if n % 2 else "Kiel"}
            for n, value in enumerate(ODD):
                odd: Any = s.add(Being(name=f"odd{n}"))
                odd.age = odd.nick = odd.extra = value
            del people[3].age, people[4].nick
        yield db


def looped(s: pykesto.Session, cls: Any, predicate: Callable[[Any], Any]) -> list[str]:
    found = []
    for one in s.query(cls):
        try:
            if predicate(one):
                found.append(one.name)
        except (AttributeError, TypeError, LookupError):
            pass
    return sorted(found)


LIMIT = 30


def _is_whole(value: Any) -> bool:
    if not isinstance(value, int):
        raise TypeError("no whole number")
    return True


def _by_pattern(p: Any) -> bool:
    match p.extra:
        case int() | "Ann":
            return True
        case {"city": "Bonn"}:
            return True
        case [first, *_]:
            return bool(first)
    return False


PREDICATES: list[Callable[[Any], Any]] = [
    lambda p: p.age >= 18,
    lambda p: not p.age >= 18,
    lambda p: p.age == 18,
    lambda p: p.age != 18,
    lambda p: 20 < p.age < 60 or p.name == "A0",
    lambda p: (p.age >= 18 and p.name.startswith("A")) or p.nick is None,
    lambda p: p.nick is None,
    lambda p: p.nick is not None,
    lambda p: p.nick is True,
    lambda p: p.nick,
    lambda p: not p.nick,
    lambda p: p.nick == "N4" or p.extra == 1,
    lambda p: p.extra is None,
    lambda p: p.extra,
    lambda p: not p.extra,
    lambda p: p.extra >= 1,
    lambda p: p.extra <= 1,
    lambda p: not (p.extra <= 1),
    lambda p: p.nick[0] == "N",
    lambda p: p.name in ("A0", "B1", "nobody"),
    lambda p: p.name in {"A0", "B1"},
    lambda p: len(p.name) == 2 and p.age % 2 == 0,
    lambda p: p.age % 2 == 0 and p.age > LIMIT,
    lambda p: p.pal is p,
    lambda p: p.pal is not p and p.pal is not None,
    lambda p: p.pal == p,
    lambda p: p.pal is p.nick,
    lambda p: p.pal.name == "A0",
    lambda p: p.pal.name.startswith("B") and p.pal.age > 20,
    lambda p: p.pal.pal.age > 20,
    lambda p: p.pal.nick is None,
    lambda p: p.address["city"] == "Bonn",
    lambda p: p.address["nothing"] == "Bonn",
    lambda p: "city" in p.address,
    lambda p: "Ann" in p.extra,
    lambda p: p.name.endswith("1"),
    lambda p: p.name.upper() == "A0",
    lambda p: p.initial == "C",
    lambda p: p.is_adult,
    lambda p: p.older_than(50) and not p.is_adult,
    lambda p: p.age < p.pal.age,
    lambda p: any(f.age > 100 for f in p.friends),
    lambda p: True,
    lambda p: False,
    lambda p: p.nothing,
    lambda p: p.school == "none",
    lambda p: [p.age >= 18],
    lambda p: p.age >= 18 if p.nick is None else p.name > "B",
    lambda p: (p.age >= 18) == (p.nick is None),
    lambda p: p.age is LIMIT,
    lambda p: p.extra == dt.date(2020, 1, 1),
    lambda p: p.k_id is None or p.name == "A0",
    lambda p: isinstance(p, Pupil),
    lambda p: type(p) is Pupil and p.age > 20,
    lambda p: p.__class__ is Pupil,
    lambda p: hasattr(p, "age") and p.age > 100,
    lambda p: getattr(p, "nick", None) == "N4",
    # What is given to functions that want a value of some type, or ask for the type.
    lambda p: p.name in "A0 and B1",
    lambda p: re.search("^A.?1", p.name),
    lambda p: re.fullmatch("[AB]1", p.name) and p.age > 2,
    lambda p: fnmatch.fnmatch(p.name, "A*"),
    lambda p: isinstance(p.extra, int),
    lambda p: p.extra > 0 if isinstance(p.extra, (int, float)) else p.extra is None,
    lambda p: isinstance(p.extra, bool) or isinstance(p.name, bytes),
    lambda p: isinstance(p.age > 3, bool),
    lambda p: divmod(p.age, 2) == (9, 0),
    lambda p: "A0B1".startswith(p.name),
    lambda p: ",".join([p.name, "x"]) == "A0,x",
    lambda p: hasattr(p.extra, "__len__"),
    lambda p: p.age.__gt__(18) is True,
    lambda p: callable(p.name),
    lambda p: vars(p)["age"] == 18,
    lambda p: p.__dict__.get("age") == 18,
    lambda p: _is_whole(p.extra),
    _by_pattern,
]


@pytest.mark.parametrize("number", range(len(PREDICATES)))
@pytest.mark.parametrize("cls", [Being, Pupil], ids=["class", "subclass"])
def test_a_predicate_finds_what_a_loop_finds(db: pykesto.Database, cls: Any, number: int) -> None:
    with db.session() as s:
        found = s.query(cls, PREDICATES[number])
        assert sorted(p.name for p in found) == looped(s, cls, PREDICATES[number])
        assert found.count() == len(looped(s, cls, PREDICATES[number]))


def test_predicates_made_at_random_find_what_a_loop_finds(db: pykesto.Database) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with db.session() as s:
        for _ in range(60):
            text = made(chance, 3)
            predicate = eval(f"lambda p: {text}")
            assert sorted(p.name for p in s.query(Being, predicate)) == looped(s, Being, predicate), (seed, text)


def made(chance: random.Random, depth: int) -> str:
    """A predicate, as text."""
    if depth and chance.random() < 0.6:
        one, other = made(chance, depth - 1), made(chance, depth - 1)
        return chance.choice(
            [f"({one} and {other})", f"({one} or {other})", f"(not {one})", f"({one} if {other} else p.age)"]
        )
    attribute = chance.choice(["age", "nick", "extra", "pal", "name", "nothing", "pal.age", "pal.nick"])
    value = repr(chance.choice([None, True, 0, 1, 18, 40.5, "A", "N8", b"x"]))
    test = chance.choice(
        ["== {}", "!= {}", "< {}", ">= {}", "is None", "is not None", "is p", "", "in (1, 18, 'A', None)"]
    )
    return f"(p.{attribute} {test.format(value)})"


def test_what_can_be_is_looked_up_in_an_index_and_nothing_is_asked_twice(db: pykesto.Database) -> None:
    db.checkpoint()
    with db.session() as s:
        exact = s.query(Being, lambda p: p.age >= 18 and p.name.startswith("A"))
        assert "index" in exact.explain() and "asked" not in exact.explain()
        turned = s.query(Being, lambda p: p.name.startswith("A") and p.age >= 18)
        assert "index" in turned.explain() and "asked" not in turned.explain()
        partly = s.query(Being, lambda p: p.name == "A0" and len(p.friends) == 2)
        assert "index on 'name'" in partly.explain()
        assert "a plain value is needed of friends" in partly.explain()


def test_a_predicate_that_changes_an_object_is_refused(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(UsageError):
        list(s.query(Being, lambda p: setattr(p, "age", 1)))


def test_what_a_predicate_raises_comes_out(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(ZeroDivisionError):
        list(s.query(Being, lambda p: 1 / 0))


# Through references


def names(query: Any) -> list[str]:
    return sorted(p.name for p in query)


def test_conditions_go_through_references(db: pykesto.Database) -> None:
    with db.session() as s:
        everyone: list[Any] = list(s.query(Being))
        pal: Any = Being.pal
        expected = [p for p in everyone if isinstance(p.pal, Being) and p.pal.name == "A0"]
        assert names(s.query(Being).where(pal.name == "A0")) == names(expected)
        expected = [
            p for p in everyone if isinstance(p.pal, Being) and isinstance(p.pal.pal, Being) and p.pal.pal.name > "B"
        ]
        assert names(s.query(Being).where(pal.pal.name > "B")) == names(expected)
        found = s.query(Being).where(~(pal.name == "A0"))
        assert found.count() == len(everyone) - s.query(Being).where(pal.name == "A0").count()


def test_any_finds_who_has_one_in_a_container(db: pykesto.Database) -> None:
    with db.session() as s:
        everyone: list[Any] = list(s.query(Being))
        expected = [p for p in everyone if any(f.name == "B1" for f in p.friends)]
        assert expected
        assert names(s.query(Being).where(col(Being.friends).any(Being.name == "B1"))) == names(expected)
        expected = [p for p in everyone if p.name > "B" and any(f.age == 60 and f.name < "C" for f in p.friends)]
        found = s.query(Being).where(Being.name > "B", col(Being.friends).any(Being.age == 60, Being.name < "C"))
        assert names(found) == names(expected)
        with pytest.raises(TypeError):
            col(Being.friends).any(lambda f: True)


def test_a_query_through_references_sees_the_sessions_own_changes(db: pykesto.Database) -> None:
    with db.session() as s:
        s.query(Being).where(Being.name == "A0").one().name = "Zoe"
        s.add(Being(name="new", pal=Being(name="Zoe")))
        assert "new" in names(s.query(Being).where(col(Being.pal).name == "Zoe"))
        assert s.query(Being).where(col(Being.pal).name == "A0").count() == 0


def test_a_query_through_references_conflicts_with_a_change_of_what_is_referred_to(db: pykesto.Database) -> None:
    with db.session() as s:
        assert s.query(Being).where(col(Being.pal).name == "nobody").count() == 0
        s.add(Being(name="other"))
        with db.transaction() as other:
            other.query(Being).where(Being.name == "A0").one().name = "nobody"
        with pytest.raises(pykesto.ConcurrencyConflict):
            s.commit()
        s.rollback()


# Examples


def test_an_example_asks_for_what_it_was_given(db: pykesto.Database) -> None:
    with db.session() as s:
        assert names(s.query(Being(name="B1"))) == ["B1"]
        assert names(s.query(Being(age=0, name="A0"))) == ["A0"]  # a default that was given counts
        assert s.query(Being(name=Unset)).count() == s.query(Being).count()
        example = Being(name="x")
        example.name = Unset
        example.age = 60
        assert names(s.query(example)) == names(s.query(Being).where(Being.age == 60))
        assert names(s.query(Pupil(age=60))) == names(s.query(Pupil).where(Pupil.age == 60))


def test_an_example_may_hold_examples(db: pykesto.Database) -> None:
    with db.session() as s:
        expected = names(s.query(Being).where(col(Being.pal).name == "A0"))
        assert expected and names(s.query(Being(pal=Being(name="A0")))) == expected
        expected = names(s.query(Being).where(col(Being.friends).any(Being.name == "B1")))
        assert expected and names(s.query(Being(friends=[Being(name="B1")]))) == expected


def test_a_stored_object_is_no_example(db: pykesto.Database) -> None:
    with db.session() as s, pytest.raises(UsageError):
        s.query(s.query(Being).first())  # type: ignore[type-var]


# Order, limits and aggregates, on objects


def test_order_limit_and_aggregates_name_attributes(db: pykesto.Database) -> None:
    with db.session() as s:
        adults = s.query(Pupil).where(Pupil.age >= 18)
        ages = sorted((p.age for p in adults), reverse=True)
        assert [p.age for p in adults.order_by("-age").limit(3)] == ages[:3]
        assert [p.age for p in adults.order_by(Pupil.age.desc())] == ages  # type: ignore[attr-defined]
        assert adults.sum("age") == sum(ages) and adults.max(Pupil.age) == ages[0]  # type: ignore[arg-type]
        assert adults.select("age", "school") == [(p.age, "none") for p in adults]
        assert adults.distinct("school") == ["none"]
        grouped = adults.group_by("school").agg(n=pykesto.agg.count(), oldest=pykesto.agg.max("age"))
        assert grouped == [{"school": "none", "n": len(ages), "oldest": ages[0]}]
        assert adults.update(age=pykesto.col("age") + 1) == len(ages)
        assert s.query(Pupil).where(Pupil.age >= 18).max("age") == ages[0] + 1
