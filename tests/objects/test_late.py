"""Attributes that are made of the row when they are first asked for: nobody can tell, but by what is not in memory."""

import copy
import dataclasses
import dis
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import pykesto
from pykesto import UsageError
from pykesto.query import Condition


class Node(pykesto.Persistent, name="late.Node"):
    label: str
    size: int = 0
    next: "Node | None" = None
    others: list["Node"] = pykesto.field(default_factory=list)
    by_name: dict[str, "Node"] = pykesto.field(default_factory=dict)
    pair: tuple[Any, ...] = ()
    seen: set[int] = pykesto.field(default_factory=set)


class Bare(pykesto.Persistent, name="late.Bare"):
    """Nothing has a default, and its own constructor looks at what is there."""

    label: str
    others: list[Any]
    hidden: list[Any]

    def __init__(self, label: str) -> None:
        assert not hasattr(self, "label") and not hasattr(self, "others")
        self.label = label


class Plain:
    """Comes before Persistent, with a `__dict__` of its own."""

    label: str
    others: list[Any]


class Mixed(Plain, pykesto.Persistent, name="late.Mixed"):
    label: str
    others: list[Any]


@pykesto.persistent(name="late.Data")
@dataclasses.dataclass
class Data:
    label: str
    others: list[Any] = dataclasses.field(default_factory=list)


class Asked(pykesto.Persistent, name="late.Asked"):
    label: str
    others: list[Any]

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        return f"no {name}"


LATE = ["next", "others", "by_name", "pair", "seen"]


@pytest.fixture
def stored(db: pykesto.Database) -> pykesto.Database:
    with db.transaction() as s:
        b = s.add(Node(label="b", size=2))
        s.add(Node(label="a", size=1, next=b, others=[b], by_name={"b": b}, pair=(b, [b]), seen={1, 2}))
        s.add(Node(label="c", size=3))
    return db


@pytest.fixture
def s(stored: pykesto.Database) -> Iterator[pykesto.Session]:
    with stored.session() as s:
        yield s
        s.rollback()


def named(s: pykesto.Session, label: str) -> Any:
    return s.query(Node).where(Node.label == label).one()


def in_memory(s: pykesto.Session) -> int:
    return len(s._objects.everyone())


def test_a_query_makes_what_it_found_and_nothing_else(s: pykesto.Session) -> None:
    a = named(s, "a")
    assert (a.label, a.size, in_memory(s)) == ("a", 1, 1)
    assert a.seen == {1, 2} and in_memory(s) == 1
    assert a.next.label == "b"
    assert in_memory(s) == 2
    assert a.others == [a.next] and a.by_name == {"b": a.next} and a.pair == (a.next, [a.next])
    assert in_memory(s) == 2


@pytest.mark.parametrize("name", LATE)
def test_each_is_made_once_and_is_the_same_ever_after(s: pykesto.Session, name: str) -> None:
    a = named(s, "a")
    first = getattr(a, name)
    assert first and getattr(a, name) is first and vars(a)[name] is first


def looks() -> dict[str, Callable[[Any], Any]]:
    return {
        "vars": lambda o: vars(o)["others"],
        "__dict__": lambda o: o.__dict__["others"],
        "getattr": lambda o: getattr(o, "others", None),
        "object": lambda o: object.__getattribute__(o, "others"),
        "hasattr": lambda o: hasattr(o, "others") and o.others,
        "match": match,
    }


def match(obj: Any) -> Any:
    match obj:
        case Node(others=[*found]):
            return found


@pytest.mark.parametrize("look", looks())
def test_every_way_to_look_finds_it(s: pykesto.Session, look: str) -> None:
    b = named(s, "b")
    assert looks()[look](named(s, "a")) == [b]


def test_a_class_says_what_it_says_of_plain_objects(s: pykesto.Session) -> None:
    a = named(s, "a")
    assert repr(type(a).others) == "col('others')" and isinstance(Node.others.contains(1), Condition)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = a.nothing
    del a.others
    with pytest.raises(AttributeError, match="Node object has no attribute 'others'") as info:
        _ = a.others
    assert info.value.name == "others" and info.value.obj is a
    assert not hasattr(a, "others") and "others" not in vars(a)
    for copied in copy.copy, copy.deepcopy:
        with pytest.raises(TypeError, match="belongs to a database"):
            copied(a)


def change(obj: Any, name: str) -> None:
    b = obj.next
    match name:
        case "label":
            obj.label = "changed"
        case "next":
            obj.next = None
        case "others":
            obj.others.append(b)
        case "by_name":
            obj.by_name["again"] = b
        case "pair":
            obj.pair[1].append(1)
        case "seen":
            obj.seen.discard(1)


@pytest.mark.parametrize("name", ["label", *LATE])
def test_a_change_of_one_leaves_the_others_as_they_are(stored: pykesto.Database, name: str) -> None:
    with stored.transaction() as s:
        model = dict(vars(named(s, "a")))
        ids = {n: str(v) for n, v in as_plain(model).items()}
    with stored.transaction() as s:
        a = named(s, "a")
        change(a, name)
        assert pykesto.state_of(a) == "dirty"
        after = {n: str(v) for n, v in as_plain(vars(a)).items()}
    assert {n for n in ids if ids[n] != after[n]} == {name}
    with stored.session() as s:
        label = "changed" if name == "label" else "a"
        assert {n: str(v) for n, v in as_plain(vars(named(s, label))).items()} == after


def as_plain(value: Any) -> Any:
    """The same with ids in place of objects."""
    if isinstance(value, pykesto.Persistent):
        return value.k_id
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    return (
        type(value)(map(as_plain, value))
        if type(value) is tuple
        else ([as_plain(item) for item in value] if isinstance(value, list) else value)
    )


@pytest.mark.parametrize("name", LATE)
def test_what_was_never_looked_at_is_set_or_deleted(stored: pykesto.Database, name: str) -> None:
    with stored.transaction() as s:
        setattr(named(s, "a"), name, None)
    with stored.transaction() as s:
        a = named(s, "a")
        assert getattr(a, name) is None
        assert all(getattr(a, other) for other in LATE if other != name)
    with stored.transaction() as s:
        delattr(named(s, "b"), name)
        with pytest.raises(AttributeError):
            delattr(named(s, "b"), name)
        assert not hasattr(named(s, "b"), name)


def test_an_object_stays_readable_after_its_session_and_its_database(stored: pykesto.Database) -> None:
    with stored.session() as s:
        a, b = named(s, "a"), named(s, "b")
    assert a.next is b and a.others == [b]
    stored.close()
    assert a.by_name == {"b": b} and a.pair == (b, [b])


def test_what_refers_to_nothing_in_memory_is_told_of_when_it_is_touched(stored: pykesto.Database) -> None:
    with stored.session() as s:
        a = named(s, "a")
    assert len(a.others) == 1 and isinstance(a.others[0], Node)
    with pytest.raises(pykesto.ClosedError, match="was not read before its session ended"):
        _ = a.others[0].label


def test_undone_changes_do_not_show(s: pykesto.Session) -> None:
    a, b = named(s, "a"), named(s, "b")
    with suppress(ZeroDivisionError), s.savepoint():
        a.size = 7
        a.others.append(b)
        raise ZeroDivisionError
    assert (a.size, a.others) == (1, [b])
    a.others.append(b)
    with suppress(ZeroDivisionError), s.savepoint():
        a.seen.add(9)
        raise ZeroDivisionError
    assert a.others == [b, b] and a.seen == {1, 2}
    s.refresh(a)
    assert (a.size, a.others) == (1, [b])
    a.next = None
    s.rollback()
    assert a.next is b


def test_an_object_that_sleeps_is_read_anew_only_if_it_changed(stored: pykesto.Database) -> None:
    with stored.session() as s, stored.session() as other:
        a, c = named(s, "a"), named(s, "c")
        s.rollback()
        assert a.others[0].label == "b"
        others = a.others
        named(other, "c").others.append(named(other, "a"))
        other.commit()
        s.rollback()
        assert a.others is others
        assert c.others == [a] and c.size == 3
        named(other, "a").size = 8
        other.commit()
        s.rollback()
        assert (a.size, a.others) == (8, others) and a.others is not others
        with pytest.raises(UsageError, match="read in an earlier snapshot"):
            others.append(c)


def test_what_is_detached_is_whole_and_is_merged_whole(stored: pykesto.Database) -> None:
    with stored.session() as s:
        a = named(s, "a")
        s.detach(a)
    assert len(a.others) == 1 and a.seen == {1, 2}
    a.seen = {5}
    a.others = []
    with stored.transaction() as s:
        own = s.merge(a)
        assert own.others == [] and own.by_name == {"b": named(s, "b")} and own.seen == {5}
    with stored.session() as s:
        assert (named(s, "a").seen, named(s, "a").others, named(s, "a").next) == ({5}, [], named(s, "b"))


def test_an_object_that_is_detached_is_in_nothing_that_is_made_later(s: pykesto.Session) -> None:
    a, b = named(s, "a"), named(s, "b")
    assert a.next is b
    s.detach(b)
    assert a.next is not b and a.others == [a.next] and a.next.label == "b"


def test_queries_of_every_kind_look_at_what_is_not_made(stored: pykesto.Database) -> None:
    with stored.transaction() as s:
        a, b = named(s, "a"), named(s, "b")
        assert list(s.query(Node).where(Node.others.any(Node.label == "b"))) == [a]
        assert list(s.query(Node, lambda n: n.next is not None and n.next.size == 2)) == [a]
        assert list(s.query(Node, lambda n: len(n.others) == 1)) == [a]
        assert list(s.query(Node(by_name={"b": b}))) == [a]
        assert list(s.referrers(b, Node.others)) == [a]
        s.prefetch(named(s, "a"), "others", "next")
        with s.loads_at_most(0):
            assert named(s, "a").others[0].label == "b"


class Keeper(pykesto.Persistent, name="late.Keeper"):
    keeps: Node = pykesto.field(on_delete="nullify", default=None)
    all: list[Node] = pykesto.field(on_delete="nullify", default_factory=list)


def test_deleting_takes_references_out_of_what_is_not_made(stored: pykesto.Database) -> None:
    with stored.transaction() as s:
        c = named(s, "c")
        s.root["keeper"] = Keeper(keeps=c, all=[c, named(s, "a")])
    with stored.transaction() as s:
        s.delete(named(s, "c"))
    with stored.session() as s:
        keeper = s.query(Keeper).one()
        assert keeper.keeps is None and keeper.all == [named(s, "a")]


def test_collecting_keeps_what_is_referred_to_by_what_is_not_made(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["bare"] = bare = Bare("x")
        bare.others = [Bare("y")]
    with db.session() as s:
        bare = s.root["bare"]
        assert bare.label == "x"
        assert db.collect().unreachable == 0
        assert bare.others[0].label == "y"


@pytest.mark.parametrize("made", [Mixed, lambda **given: Data(**given), Asked])
def test_classes_of_every_build_have_all_in_their_dict(db: pykesto.Database, made: Any) -> None:
    with db.transaction() as s:
        obj = made(label="x", others=[])
        obj.others.append(obj)
        s.root["obj"] = obj
    for look in "others", "__dict__":
        with db.session() as s:
            obj = s.root["obj"]
            assert obj.label == "x"
            found = obj.others if look == "others" else obj.__dict__["others"]
            assert found[0] is obj and len(found) == 1
            assert {"label", "others"} <= obj.__dict__.keys()


def test_a_class_may_answer_for_what_is_missing(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["obj"] = Asked(label="x", others=[1])
    with db.transaction() as s:
        obj = s.root["obj"]
        assert (obj.nothing, obj.others) == ("no nothing", [1])
        del obj.others
        assert obj.others == "no others"


def test_a_constructor_and_a_reader_find_what_is_missing_missing(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["bare"] = bare = Bare("x")
        bare.others = [1]
    with db.session() as s:
        bare = s.root["bare"]
        assert not hasattr(bare, "hidden") and bare.others == [1] and bare.label == "x"
        assert type(bare) is Bare


def test_a_class_below_may_put_something_else_in_the_place(stored: pykesto.Database) -> None:
    class Above(pykesto.Persistent, name="late.Above"):
        others: list[Any]

    class Below(Above, name="late.Below"):
        others = property(lambda self: "computed")

    with stored.transaction() as s:
        s.root["below"] = below = Below()
        below.__dict__["others"] = [1]
        s.root["above"] = Above(others=[2])
    with stored.session() as s:
        assert s.root["below"].others == "computed" and vars(s.root["below"]) == {"others": [1]}
        assert s.root["above"].others == [2]


def test_defaults_and_new_names_are_not_put_over_what_is_stored(db: pykesto.Database) -> None:
    class Old(pykesto.Persistent, name="late.Old"):
        label: str
        links: list[Any]

    with db.transaction() as s:
        s.root["old"] = Old(label="x", links=[1, 2])

    class New(pykesto.Persistent, name="late.Old"):
        label: str
        edges: list[Any] = pykesto.field(was="links", default_factory=list)
        more: list[Any] = pykesto.field(default_factory=lambda: ["default"])

    with db.transaction() as s:
        new = s.root["old"]
        assert new.label == "x" and new.edges == [1, 2] and new.more == ["default"]
        assert sorted(vars(new)) == ["edges", "label", "more"]
        new.edges.append(3)
    with db.session() as s:
        assert s.root["old"].edges == [1, 2, 3]


def test_an_upgrade_sees_all_of_an_object(db: pykesto.Database) -> None:
    class First(pykesto.Persistent, name="late.Upgraded"):
        parts: list[Any]
        rest: list[Any]

    with db.transaction() as s:
        s.root["obj"] = First(parts=[1, 2], rest=[3])

    class Second(pykesto.Persistent, name="late.Upgraded"):
        parts: list[Any]
        rest: list[Any]

        @pykesto.upgrade(from_version=1)
        def _join(self) -> None:
            self.all = self.parts + self.rest
            del self.parts

    with db.session() as s:
        obj = s.root["obj"]
        assert obj.all == [1, 2, 3] and obj.rest == [3] and not hasattr(obj, "parts")


def test_little_memory_is_enough(stored: pykesto.Database) -> None:
    with stored.session() as s:
        s.cache_bytes = 1
        for _ in range(3):
            for node in s.query(Node):
                assert [other.label for other in node.others] == (["b"] if node.label == "a" else [])
        assert in_memory(s) <= 3


def test_a_child_process_reads_what_was_loaded_before_the_fork(stored: pykesto.Database) -> None:
    with stored.session() as s:
        a, b = named(s, "a"), named(s, "b")
        pid = os.fork()
        if not pid:
            try:
                os._exit(0 if a.others == [b] and a.next is b else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_threads_that_look_at_once_get_the_same(stored: pykesto.Database) -> None:
    with stored.session() as s:
        a = named(s, "a")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(a.others)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is a.others for one in found) and len(found) == 8


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="later ones make a dict when an object changes its class")
def test_once_looked_at_it_is_read_as_on_plain_objects(stored: pykesto.Database) -> None:
    found: dict[str, Any] = {}
    exec("def read(obj):\n    return obj.others", found)
    with stored.session() as s:
        a = named(s, "a")
        for _ in range(50):
            found["read"](a)
        names = [one.opname for one in dis.get_instructions(found["read"], adaptive=True) if "ATTR" in one.opname]
        assert names == ["LOAD_ATTR_INSTANCE_VALUE"]


def test_a_random_walk_over_looks_and_changes_is_as_on_dicts(db: pykesto.Database) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    names = ["label", *LATE]
    values: list[Callable[[], Any]] = [
        lambda: chance.randrange(9),
        lambda: [chance.randrange(9)],
        lambda: {"k": [chance.randrange(9)]},
        lambda: ([chance.randrange(9)], 1),
        lambda: {chance.randrange(9)},
        lambda: "text",
    ]
    model: dict[str, Any] = {"label": "x"}
    with db.transaction() as s:
        s.root["obj"] = obj = Node(label="x")
        model |= {name: getattr(obj, name) for name in ("size", *LATE)}
        model = copy.deepcopy({n: list(v) if isinstance(v, list) else v for n, v in model.items()})
    for _ in range(30):
        with db.session() as s:
            obj = s.root["obj"]
            for _ in range(chance.randrange(6)):
                name = chance.choice(names)
                match chance.randrange(5):
                    case 0:
                        value = chance.choice(values)()
                        setattr(obj, name, value)
                        model[name] = copy.deepcopy(value)
                    case 1:
                        assert getattr(obj, name) == model[name], seed
                    case 2 if isinstance(model[name], list):
                        getattr(obj, name).append(1)
                        model[name].append(1)
                    case 3:
                        s.commit()
                    case 4 if pykesto.state_of(obj) == "clean":
                        s.rollback()
            s.commit()
            assert vars(obj) == model, seed
