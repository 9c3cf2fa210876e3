"""Containers of many rows, and blobs: as dict, set, list and bytes, apart from what others change."""

import random
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import (
    Blob,
    ConcurrencyConflict,
    PersistentCounter,
    PersistentDict,
    PersistentList,
    PersistentSet,
    UsageError,
    is_loaded,
)
from pykesto.objects.sequence import place_between


class Item(pykesto.Persistent, name="containers.Item"):
    name: str


class Album(pykesto.Persistent, name="containers.Album"):
    cover: Any = None
    photos: list[Any] = pykesto.field(default_factory=list)


def test_a_dict_keeps_values_objects_and_order(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann = Item(name="Ann")
        s.root["d"] = PersistentDict({"b": 1, "a": ann, "c": [1], 5: None, (1, "x"): {"k": ann}})
    with db.session() as s:
        d = s.root["d"]
        assert isinstance(d, PersistentDict) and not is_loaded(d)
        assert list(d) == [5, "a", "b", "c", (1, "x")]
        assert d["a"].name == "Ann" and d[(1, "x")]["k"] is d["a"]
        assert len(d) == 5 and "b" in d and "z" not in d and d
        with pytest.raises(KeyError):
            d["z"]
        with pytest.raises(KeyError):
            del d["z"]
        d["c"].append(2)  # seen, as everywhere
        del d["b"]
        d["new"] = Item(name="Bob")
        assert list(d.range("a", "d")) == [("a", d["a"]), ("c", [1, 2])]
        assert next(k for k, _ in d.range(reverse=True)) == (1, "x")
        assert s.query(Item).count() == 2
        s.commit()
        assert d["c"] == [1, 2] and sorted(map(str, d)) == ["(1, 'x')", "5", "a", "c", "new"]
        d.clear()
        assert not d
        s.rollback()
        assert len(d) == 5


def test_objects_are_keys_and_items(db: pykesto.Database) -> None:
    with db.transaction() as s:
        ann, bob = Item(name="Ann"), Item(name="Bob")
        s.root["d"] = PersistentDict({ann: 1})
        s.root["s"] = PersistentSet([ann, bob, 7])
    with db.session() as s:
        ann = s.query(Item).where(Item.name == "Ann").one()
        assert s.root["d"][ann] == 1 and list(s.root["d"]) == [ann]
        assert ann in s.root["s"] and len(s.root["s"]) == 3
        s.root["s"].discard(ann)
        s.root["s"].remove(7)
        assert s.root["s"] & {ann} == set() and [i.name for i in s.root["s"]] == ["Bob"]


def test_changes_of_different_entries_do_not_conflict_and_of_one_do(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["d"] = PersistentDict({"a": 1, "b": 2})
        s.root["l"] = PersistentList([0])
        s.root["c"] = PersistentCounter(10)
    with db.session() as one, db.session() as other:
        for s, key in (one, "a"), (other, "b"):
            s.root["d"][key] += 10
            s.root["d"][key * 3] = 0
            s.root["l"].append(key)
            s.root["c"].add(1)
        one.commit()
        other.commit()
    with db.session() as one, db.session() as other:
        assert dict(one.root["d"]) == {"a": 11, "aaa": 0, "b": 12, "bbb": 0}
        assert sorted(map(str, one.root["l"])) == ["0", "a", "b"] and one.root["c"].value == 12
        for s in one, other:
            s.root["d"]["a"] += 1
        one.commit()
        with pytest.raises(ConcurrencyConflict):
            other.commit()
        other.rollback()


def test_reading_all_entries_conflicts_with_a_new_one(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["d"] = PersistentDict({"a": 1})
    with db.session() as s:
        s.root["n"] = len(s.root["d"])
        with db.transaction() as other:
            other.root["d"]["b"] = 1
        with pytest.raises(ConcurrencyConflict):
            s.commit()
        s.rollback()


def test_a_counter_is_compacted(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["c"] = counter = PersistentCounter()
        for n in range(10):
            counter.add(n)
    with db.transaction() as s:
        s.root["c"].compact()
    with db.session() as s:
        assert s.root["c"].value == 45 and len(s.root["c"]) == 1


def change(chance: random.Random, items: Any, step: int) -> Any:
    """One change of a list; what it gave, or its error."""
    size = len(items)
    at = chance.randrange(-size - 2, size + 3)
    ends = [chance.choice([None, chance.randrange(-size - 2, size + 3)]) for _ in range(2)]
    cut = slice(*ends, chance.choice([None, None, 1, 2, -1, -3]))
    values = [[step, n] if n % 3 == 0 else step * 100 + n for n in range(chance.choice([0, 1, 1, 2, 5]))]
    match chance.randrange(16):
        case 0 | 1:
            return items.append([step])
        case 2:
            return items.extend(values)
        case 3 | 4 | 5:
            return items.insert(at, step)
        case 6:
            items[at] = values
        case 7:
            del items[at]
        case 8 | 9 | 10:
            items[cut] = values
        case 11:
            if size > 8:
                del items[cut]
        case 12:
            return items.pop(at) if chance.random() < 0.5 else items.pop()
        case 13:
            return items.sort(key=str, reverse=chance.random() < 0.5)
        case 14:
            return items.reverse()
        case 15:
            return items.remove(chance.choice([step - 1, [step - 2]]))
    return None


def outcome(chance: random.Random, items: Any, step: int) -> Any:
    try:
        return change(chance, items, step)
    except (IndexError, ValueError) as error:
        return type(error)


def test_a_list_is_changed_as_any_other(db: pykesto.Database) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    plain: list[Any] = []
    with db.session() as s:
        s.root["l"] = PersistentList()
        for step in range(400):
            stored = s.root["l"]
            same = chance.randrange(1 << 32)
            expected = outcome(random.Random(same), plain, step)
            assert outcome(random.Random(same), stored, step) == expected, (seed, step)
            assert list(stored) == plain, (seed, step)
            if chance.random() < 0.1:
                s.commit()
            elif chance.random() < 0.1 and plain:
                at = chance.randrange(-len(plain), len(plain))
                if isinstance(plain[at], list):  # what was moved is tracked where it is now
                    plain[at].append(step)
                    stored[at].append(step)
            cut = slice(
                *(chance.choice([None, chance.randrange(-9, 9)]) for _ in range(2)), chance.choice([None, 2, -1])
            )
            assert stored[cut] == plain[cut] and list(reversed(stored)) == plain[::-1], (seed, step, cut)
            del plain[30:], stored[30:]
        for one in plain, stored:
            one.append("last")  # chance may have left nothing
        assert stored.index(plain[-1], -1) == len(plain) - 1 and stored.count(plain[0]) == plain.count(plain[0])
        assert plain[0] in stored and "none" not in stored and stored.copy() == plain
        stored *= 2
        assert list(stored) == plain * 2
        with pytest.raises(IndexError):
            stored[1000]
        with pytest.raises(ValueError, match="extended slice of size"):
            stored[::2] = []
        s.commit()
        assert list(stored) == plain * 2


def in_two_sessions(db: pykesto.Database, one: str, other: str) -> bool:
    """Whether changes of a list of ten, `l`, in two sessions at once do not conflict."""
    with db.transaction() as s:
        s.root["l"] = PersistentList(range(10))
    with db.session() as first, db.session() as second:
        second.version  # noqa: B018 - begins
        exec(one, {"l": first.root["l"]})
        exec(other, {"l": second.root["l"]})
        first.commit()
        try:
            second.commit()
        except ConcurrencyConflict:
            return False
        return True


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("l.append(1)", "l.append(2)", True),
        ("l.insert(0, 1)", "l.insert(0, 2)", True),
        ("l.extend([1, 2])", "l[2:4] = [1, 2, 3, 4]", True),
        ("l.append(1)", "l.insert(5, 2)", True),
        ("l[7] = 1", "l[:3] = []", True),
        ("l[7] = 1", "del l[3:5]", True),
        ("del l[1]", "l.pop()", True),
        ("l[0] = 1", "l[-3:]; l.append(2)", True),
        ("l[:3] = []", "l[7] = 1", False),
        ("l.insert(2, 1)", "l.insert(5, 2)", False),
        ("l.append(1)", "l[-1] = 2", False),
        ("l.pop()", "l.pop()", False),
        ("l.append(1)", "l.sort(reverse=True)", False),
        ("l[0] = -1", "l.reverse()", False),
    ],
)
def test_changes_of_a_list_conflict_with_those_of_what_they_counted(
    db: pykesto.Database, one: str, other: str, together: bool
) -> None:
    assert in_two_sessions(db, one, other) == together


def test_many_items_go_into_a_list_at_once_under_short_keys(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["l"] = items = PersistentList("az")
        items[1:1] = range(3000)
        for number in range(300):
            items.append(number)
    with db.session() as s:
        items = s.root["l"]
        assert list(items) == ["a", *range(3000), "z", *range(300)]
        assert max(len(key) for key, _ in s._begin().scan("entries")) < 64


def test_a_container_in_an_entry_is_refused_when_it_is_no_longer_the_value(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["d"] = PersistentDict({"a": [1], "b": [2]})
        s.root["l"] = PersistentList([[1], [2]])
    with db.session() as s:
        d, items = s.root["d"], s.root["l"]
        a, first = d["a"], items[0]
        d["a"] = 5
        items.reverse()
        for container in a, first:
            with pytest.raises(UsageError, match="read it again"):
                container.append(3)
        b = d["b"]
        s.commit()
        b.append(3)  # nobody changed it
        s.commit()
        with db.transaction() as other:
            other.root["d"]["b"].append(4)
        s.rollback()
        with pytest.raises(UsageError, match="read it again"):
            b.append(5)
        assert d["a"] == 5 and d["b"] == [2, 3, 4] and list(items) == [[2], [1]]


def test_dicts_and_sets_have_what_plain_ones_have(db: pykesto.Database) -> None:
    with db.session() as s:
        s.root["d"] = d = PersistentDict({"b": 1, "a": 2})
        s.root["s"] = items = PersistentSet("ba")
        d |= {"c": 3}
        assert list(d.items()) == [("a", 2), ("b", 1), ("c", 3)] and next(reversed(d.items())) == ("c", 3)
        assert list(d.values()) == [2, 1, 3] and list(reversed(d.values())) == [3, 1, 2]
        assert (
            list(reversed(d)) == ["c", "b", "a"] and d.copy() == dict(d) and ("a", 2) in d.items() and 3 in d.values()
        )
        items.update("xy", ["z"])
        items.difference_update("xa")
        assert items.copy() == set("byz") and list(reversed(items)) == ["z", "y", "b"]


def test_places_are_between_others_for_ever() -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    places = [(1 << 62).to_bytes(8, "big") + b"abcdef"]
    for _ in range(400):
        at = chance.choice([0, chance.randrange(len(places))])
        made = place_between(places[at - 1] if at else None, places[at]) + chance.randbytes(6)
        places.insert(at, made)
    assert places == sorted(places) and len(set(places)) == len(places), seed


def change_and_fail(d: PersistentDict) -> None:
    d["a"].append(2)
    d["b"] = 1
    raise TypeError


def test_entries_take_part_in_savepoints_and_go_with_their_container(db: pykesto.Database) -> None:
    with db.session() as s:
        s.root["d"] = d = PersistentDict({"a": [1]})
        with pytest.raises(TypeError), s.savepoint():
            change_and_fail(d)
        assert dict(d) == {"a": [1]}
        s.commit()
        k_id = d.k_id
        s.delete(d)
        s.commit()
        with pytest.raises(UsageError):
            d["c"] = 1
    with db.session() as s:
        assert s.get(PersistentDict, k_id) is None
        assert list(s._begin().scan("entries")) == []


def test_a_container_in_no_session_says_so() -> None:
    with pytest.raises(UsageError, match="add"):
        PersistentDict({"a": 1})["a"]


def test_a_container_in_an_attribute_can_be_asked_in_a_predicate(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.add(Album(cover=PersistentSet(["red"])))
        s.add(Album(cover=["red"]))
        s.add(Album(cover=PersistentDict()))
        s.add(Album(cover=PersistentDict({"x": 1})))
    with db.session() as s:
        assert s.query(Album, lambda a: "red" in a.cover).count() == 2
        assert s.query(Album, lambda a: not a.cover).count() == 1
        assert s.query(Album, lambda a: a.cover["x"] == 1).count() == 1
        assert s.query(PersistentDict, lambda d: len(d) == 1).count() == 1


# Blobs


def test_a_blob_is_read_and_written_as_a_file(db: pykesto.Database, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    with db.session() as s, (tmp_path / "plain").open("w+b") as plain:
        s.root["blob"] = blob = Blob()
        with blob.open("r+b") as f:
            for step in range(60):
                what = chance.choice(["write", "write", "read", "seek", "truncate", "flush"])
                if what == "write":
                    content = chance.randbytes(chance.choice([1, 1000, 70_000]))
                    assert f.write(content) == plain.write(content)
                elif what == "read":
                    size = chance.choice([1, 5000, 200_000])
                    assert f.read(size) == plain.read(size), (seed, step)
                elif what == "seek":
                    to = chance.randrange(300_000)
                    assert f.seek(to) == plain.seek(to)
                elif what == "truncate":
                    assert f.truncate() == plain.truncate(), (seed, step)
                else:
                    f.flush()
        s.commit()
        plain.seek(0)
        expected = plain.read()
    with db.session() as s, s.root["blob"].open() as f:
        assert f.read() == expected, seed
        assert len(s.root["blob"]) == len(expected)
        with pytest.raises(UsageError):
            s.root["blob"].open("r")


def test_a_set_gives_ranges_of_its_items(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.root["set"] = pykesto.PersistentSet(range(10))
        assert list(s.root["set"].range(3, 6)) == [3, 4, 5]
        assert list(s.root["set"].range(8, reverse=True)) == [9, 8]


def test_a_blob_goes_with_its_last_owner(db: pykesto.Database) -> None:
    with db.transaction() as s:
        blob = Blob(b"x" * 200_000)
        s.add(Album(cover=blob))
        s.add(Album(photos=[Blob(b"y"), blob]))
    with db.transaction() as s:
        one, _ = s.query(Album)
        assert {b.owners for b in s.query(Blob)} == {1, 2}
        s.delete(one)
    with db.transaction() as s:
        assert sorted(len(b) for b in s.query(Blob)) == [1, 200_000]
        (album,) = s.query(Album)
        album.photos.pop()
    with db.transaction() as s:
        assert [len(b) for b in s.query(Blob)] == [1]
        s.delete(s.query(Album).one())
    with db.session() as s:
        assert s.query(Blob).count() == 0
        assert list(s._begin().scan("entries")) == []
