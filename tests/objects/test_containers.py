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
from pykesto.objects.containers import place_between


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


def test_a_list_is_changed_anywhere(db: pykesto.Database) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    plain: list[int] = []
    with db.session() as s:
        s.root["l"] = PersistentList()
        for step in range(150):
            stored = s.root["l"]
            what = chance.choice(["append", "insert", "insert", "del", "set", "commit"])
            at = chance.randrange(-len(plain) - 1, len(plain) + 1)
            if what == "append" or not plain:
                plain.append(step)
                stored.append(step)
            elif what == "insert":
                plain.insert(at, step)
                stored.insert(at, step)
            elif what == "commit":
                s.commit()
            else:
                at = chance.randrange(-len(plain), len(plain))
                if what == "del":
                    del plain[at], stored[at]
                else:
                    plain[at] = stored[at] = step
            assert list(stored) == plain, (seed, step, what, at)
        assert stored[0] == plain[0] and stored[-1] == plain[-1] and stored[1:3] == plain[1:3]
        with pytest.raises(IndexError):
            stored[1000]


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
