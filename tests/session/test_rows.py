"""Rows: live views of columns, which know when they, or what is in them, change."""

import copy
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import pykesto
from pykesto import ClosedError, CodecError, KeyExists, UsageError


@pytest.fixture
def db(database: Path) -> Iterator[pykesto.Database]:
    with pykesto.open(database, durability="process") as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {
                "age": 40,
                "tags": {"admin"},
                "list": [1, [2, {"deep": [3]}]],
                "dict": {"inner": {"list": []}},
                "raw": bytearray(b"ab"),
            }
        yield db


def stored(db: pykesto.Database, key: Any = "ann") -> dict[str, Any]:
    with db.session() as s:
        return s.table("people")[key].to_dict()


# Changes in place

CHANGES: dict[str, Callable[[Any], Any]] = {
    "append": lambda row: row["list"].append(9),
    "extend": lambda row: row["list"].extend([8, 9]),
    "insert": lambda row: row["list"].insert(0, 9),
    "pop": lambda row: row["list"].pop(),
    "remove": lambda row: row["list"].remove(1),
    "clear": lambda row: row["list"].clear(),
    "reverse": lambda row: row["list"].reverse(),
    "sort": lambda row: row["dict"]["inner"]["list"].sort(),
    "set an item": lambda row: row["list"].__setitem__(0, 9),
    "set a slice": lambda row: row["list"].__setitem__(slice(0, 2), [[7], 8]),
    "delete an item": lambda row: row["list"].__delitem__(0),
    "list +=": lambda row: row["list"].__iadd__([9]),
    "list *=": lambda row: row["list"].__imul__(2),
    "a list in a dict in a list in a list": lambda row: row["list"][1][1]["deep"].append(9),
    "a dict in a list": lambda row: row["list"][1][1].__setitem__("new", 1),
    "set a key": lambda row: row["dict"].__setitem__("new", 1),
    "delete a key": lambda row: row["dict"].__delitem__("inner"),
    "dict pop": lambda row: row["dict"].pop("inner"),
    "popitem": lambda row: row["dict"].popitem(),
    "dict clear": lambda row: row["dict"].clear(),
    "dict update": lambda row: row["dict"].update(new=1),
    "setdefault": lambda row: row["dict"].setdefault("new", []).append(1),
    "dict |=": lambda row: row["dict"].__ior__({"new": 1}),
    "a list in a dict in a dict": lambda row: row["dict"]["inner"]["list"].append(9),
    "add": lambda row: row["tags"].add("new"),
    "discard": lambda row: row["tags"].discard("admin"),
    "set remove": lambda row: row["tags"].remove("admin"),
    "set pop": lambda row: row["tags"].pop(),
    "set clear": lambda row: row["tags"].clear(),
    "set update": lambda row: row["tags"].update({"a", "b"}),
    "set |=": lambda row: row["tags"].__ior__({"new"}),
    "set &=": lambda row: row["tags"].__iand__({"new"}),
    "set -=": lambda row: row["tags"].__isub__({"admin"}),
    "set ^=": lambda row: row["tags"].__ixor__({"new"}),
    "difference_update": lambda row: row["tags"].difference_update({"admin"}),
    "intersection_update": lambda row: row["tags"].intersection_update({"new"}),
    "symmetric_difference_update": lambda row: row["tags"].symmetric_difference_update({"new"}),
    "bytearray append": lambda row: row["raw"].append(9),
    "bytearray +=": lambda row: row["raw"].__iadd__(b"cd"),
    "bytearray item": lambda row: row["raw"].__setitem__(0, 9),
    "bytearray clear": lambda row: row["raw"].clear(),
    "row update": lambda row: row.update(age=41, new=[]),
    "row pop": lambda row: row.pop("age"),
    "row clear": lambda row: row.clear(),
    "row setdefault": lambda row: row.setdefault("new", []).append(1),
    "what was put in": lambda row: (row.__setitem__("new", [[]]), row["new"][0].append(1)),
    "what was appended": lambda row: (row["list"].append([]), row["list"][-1].append(1)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("in_base", [False, True])
def test_a_change_in_place_is_seen_and_stored(db: pykesto.Database, change: str, in_base: bool) -> None:
    if in_base:
        db.checkpoint()
    expected = stored(db)
    CHANGES[change](expected)
    with db.session() as s:
        row = s.table("people")["ann"]
        CHANGES[change](row)
        assert s.dirty == (row,) or change == "sort"
        assert row == expected
        s.commit()
    assert stored(db) == expected


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_place_is_undone_by_a_rollback(db: pykesto.Database, change: str) -> None:
    before = stored(db)
    with db.session() as s:
        row = s.table("people")["ann"]
        CHANGES[change](row)
        s.rollback()
        assert row == before
        assert s.dirty == ()
        s.commit()
    assert stored(db) == before


def test_reading_makes_nothing_dirty(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        row.to_dict(), row["tags"] | {"x"}, row["list"] + [1], row["dict"].get("x"), row["list"][1:]
        copy.deepcopy(row["list"]), pickle.dumps(row["dict"]), row["tags"].union({"x"}), sorted(row["tags"])
        assert s.dirty == ()


def test_a_commit_of_a_row_that_is_read_only_writes_nothing(db: pykesto.Database) -> None:
    version = db.version
    with db.transaction() as s:
        assert s.table("people")["ann"]["age"] == 40
    assert db.version == version


@pytest.mark.parametrize("name", ["__ior__", "__iand__", "__isub__", "__ixor__"])
def test_an_operator_on_a_set_refuses_what_sets_operator_refuses(db: pykesto.Database, name: str) -> None:
    with db.session() as s:
        tags = s.table("people")["ann"]["tags"]
        assert getattr(set(), name)(["list"]) is NotImplemented
        assert getattr(tags, name)(["list"]) is NotImplemented


def test_a_list_in_a_tuple_is_tracked(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["bob"] = {"pair": (1, [2])}
    with db.session() as s:
        s.table("people")["bob"]["pair"][1].append(3)
        s.commit()
    assert stored(db, "bob") == {"pair": (1, [2, 3])}


def test_assigned_containers_are_copied(db: pykesto.Database) -> None:
    mine = [1, [2]]
    with db.transaction() as s:
        row = s.table("people")["ann"]
        row["list"] = mine
        mine[1].append(3)  # type: ignore[attr-defined]
        row["again"] = row["list"]
        row["again"].append(4)
    assert stored(db)["list"] == [1, [2]]
    assert stored(db)["again"] == [1, [2], 4]


def test_what_is_read_back_is_an_instance_of_and_equal_to_the_plain_container(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        assert isinstance(row["list"], list) and isinstance(row["dict"], dict) and isinstance(row["tags"], set)
        assert row["tags"] == {"admin"} and row["dict"] == {"inner": {"list": []}}
        plain = row.to_dict()
        assert {type(plain[name]) for name in ("list", "dict", "tags", "raw")} == {list, dict, set, bytearray}
        assert type(plain["list"][1]) is list


def test_copies_of_tracked_containers_are_plain(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        for value in row["list"], row["dict"], row["tags"], row["raw"]:
            for made in copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)):
                assert made == value
                assert type(made) in (list, dict, set, bytearray)


# Identity, states


def test_a_row_is_one_object_within_a_session(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        row = people["ann"]
        assert people["ann"] is row
        assert people.query.first() is row
        assert next(people.range()) is row
        assert s.table("people") is people


def test_keys_that_are_equal_in_python_are_one_key(db: pykesto.Database) -> None:
    with db.transaction() as s:
        numbers = s.table("numbers")
        numbers[1] = {"n": "int"}
        numbers[1.0] = {"n": "float"}
        assert numbers[True] is numbers[1]
        assert numbers[1]["n"] == "float"
        numbers["1"] = {}
        numbers[b"1"] = {}
        assert len(numbers) == 3


def test_keys_come_in_the_order_of_their_types_and_values(db: pykesto.Database) -> None:
    in_order = [-5, 0.5, 1, 10**30, "", "A", "a", "ab", b"", b"a", (1, "a"), (1, "b"), (2,)]
    with db.transaction() as s:
        for key in reversed(in_order):
            s.table("keys")[key] = {}
    with db.session() as s:
        assert list(s.table("keys")) == in_order
        db.checkpoint()
        assert [row.k_key for row in s.table("keys").range(reverse=True)] == in_order[::-1]


@pytest.mark.parametrize("key", [[1], {1}, {}, float("nan"), object()])
def test_what_can_be_no_key_is_a_codec_error(db: pykesto.Database, key: object) -> None:
    with db.session() as s:
        with pytest.raises((CodecError, TypeError)):
            s.table("people")[key] = {}
        with pytest.raises((CodecError, TypeError)):
            s.table("people")[key]


@pytest.mark.parametrize("value", [object(), lambda: None, [object()], {"x": {1: object()}}])
def test_what_can_not_be_stored_is_refused_when_it_is_assigned_or_committed(db: pykesto.Database, value: Any) -> None:
    with db.session() as s:
        with pytest.raises((CodecError, TypeError)):
            s.table("people")["bob"] = {"x": value}
        assert "bob" not in s.table("people")
        s.table("people")["ann"]["age"] = 41
        s.commit()
    assert stored(db)["age"] == 41


@pytest.mark.parametrize("name", ["", 1, None, b"x"])
def test_a_column_has_a_name_of_text(db: pykesto.Database, name: Any) -> None:
    with db.session() as s, pytest.raises((UsageError, TypeError)):
        s.table("people")["ann"][name] = 1


@pytest.mark.parametrize("name", ["", 1, None])
def test_a_table_has_a_name_of_text(db: pykesto.Database, name: Any) -> None:
    with db.session() as s, pytest.raises((UsageError, TypeError)):
        s.table(name)


def test_a_deleted_row_is_a_key_error_to_read_and_a_usage_error_to_write(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        del s.table("people")["ann"]
        with pytest.raises(KeyError):
            row["age"]
        with pytest.raises(UsageError):
            row["age"] = 1
        with pytest.raises(KeyError):
            s.table("people")["ann"]
        with pytest.raises(KeyError):
            del s.table("people")["ann"]


def test_a_row_may_be_deleted_and_set_again_in_one_session(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        del people["ann"]
        people["ann"] = {"age": 1}
        s.commit()
    assert stored(db) == {"age": 1}


def test_a_row_made_and_deleted_in_one_session_was_never_there(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        people["bob"] = {}
        del people["bob"]
        people["eve"] = {}
        s.commit()
        assert list(people) == ["ann", "eve"]


def test_new_dirty_and_deleted_say_what_the_commit_will_do(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        people["bob"] = {}
        assert (len(s.new), len(s.dirty), len(s.deleted)) == (1, 0, 0)
        people["ann"]["age"] += 1
        assert (len(s.new), len(s.dirty), len(s.deleted)) == (1, 1, 0)
        del people["ann"]
        assert (len(s.new), len(s.dirty), len(s.deleted)) == (1, 0, 1)
        s.commit()
        assert (s.new, s.dirty, s.deleted) == ((), (), ())


def test_a_row_reads_the_new_snapshot_after_a_commit(db: pykesto.Database) -> None:
    with db.session() as s:
        row = s.table("people")["ann"]
        assert row["age"] == 40
        with db.transaction() as other:
            other.table("people")["ann"]["age"] = 41
        assert row["age"] == 40
        s.commit()
        assert row["age"] == 41


def test_what_was_loaded_stays_readable_after_close_and_nothing_more(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        row = people["ann"]
        assert row["age"] == 40
    assert row["age"] == 40
    assert row["list"][0] == 1
    for use in (
        lambda: row.__setitem__("age", 1),
        lambda: row["list"].append(1),
        lambda: people["bob"],
        lambda: list(people),
        lambda: people.__setitem__("bob", {}),
        lambda: s.table("other"),
        lambda: s.commit(),
        lambda: s.version,
    ):
        with pytest.raises(ClosedError):
            use()


def test_rows_equal_mappings_are_unhashable_and_false_when_empty(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        people["empty"] = {}
        assert not people["empty"] and people["ann"]
        assert people["empty"] == {}
        assert people["ann"] != {"age": 40}
        with pytest.raises(TypeError):
            hash(people["ann"])
        s.rollback()


def test_insert_refuses_a_key_that_is_there(db: pykesto.Database) -> None:
    with db.session() as s:
        with pytest.raises(KeyExists) as caught:
            s.table("people").insert("ann", {})
        assert isinstance(caught.value, KeyError)
        assert (caught.value.table, caught.value.key) == ("people", "ann")
        s.table("people").insert("bob", {"age": 1})
        assert s.table("people")["bob"]["age"] == 1
        s.rollback()


def test_added_rows_get_new_keys_that_sort_by_time(db: pykesto.Database) -> None:
    with db.transaction() as s:
        keys = s.table("log").add_many({"n": n} for n in range(5))
        assert all(key.version == 7 for key in keys)
        assert len(set(keys)) == 5
    with db.session() as s:
        assert sorted(s.table("log")[key]["n"] for key in keys) == list(range(5))


def test_a_loop_is_fixed_when_it_starts(db: pykesto.Database) -> None:
    with db.transaction() as s:
        for n in range(5):
            s.table("numbers")[n] = {"n": n}
    with db.session() as s:
        numbers = s.table("numbers")
        seen = []
        for row in numbers.query:
            seen.append(row.k_key)
            if row.k_key == 0:
                numbers[9] = {"n": 9}
                del numbers[3]
        assert seen == [0, 1, 2, 4]
        s.rollback()


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_loop_that_outlives_its_snapshot_is_a_usage_error(db: pykesto.Database, end: str) -> None:
    with db.transaction() as s:
        for n in range(5):
            s.table("numbers")[n] = {"n": n}
    with db.session() as s:
        loop = iter(s.table("numbers").query)
        next(loop)
        getattr(s, end)()
        with pytest.raises(UsageError):
            next(loop)


def test_a_repr_loads_nothing(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        assert "people" in repr(people)
        assert not s.in_transaction
        row = next(iter(people.query))
        s.rollback()
        assert "people['ann']" in repr(row)
        assert not s.in_transaction  # what it shows is what it has, of whichever snapshot


def test_a_list_held_while_another_commit_changed_its_row_refuses_to_be_changed(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("people")["ann"] = {"tags": [1]}
    with db.session() as s:
        row = s.table("people")["ann"]
        held = row["tags"]
        s.commit()
        held.append(2)  # nobody changed the row since: it is still the row's own list
        s.commit()
        db.run(lambda other: other.table("people")["ann"]["tags"].append(3))
        for _ in range(2):  # the first time it is found out by the change itself
            with pytest.raises(UsageError, match="earlier snapshot"):
                held.append(4)
        assert held == [1, 2]
        assert row["tags"] == [1, 2, 3]
        row["tags"].append(5)
        s.commit()
    with db.session() as s:
        assert s.table("people")["ann"]["tags"] == [1, 2, 3, 5]


def test_a_table_gives_what_a_dict_would_of_setdefault_and_pop(db: pykesto.Database) -> None:
    with db.transaction() as s:
        people = s.table("people")
        assert people.setdefault("bob", {"age": 1}) is people["bob"]
        assert people.setdefault("bob", {"age": 2})["age"] == 1
        assert people.pop("bob") == {"age": 1}
        assert people.pop("bob", None) is None
        with pytest.raises(KeyError):
            people.pop("bob")
        key, columns = people.popitem()
        assert (key, columns["age"]) == ("ann", 40)
        with pytest.raises(KeyError, match="empty"):
            people.popitem()


def test_an_assigned_row_reads_nothing_until_somebody_asks(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        people["ann"] = {"age": 1}
        people["bob"] = {"age": 2}
        assert s.version == db.version
        assert (people["ann"]["age"], people["bob"]["age"]) == (1, 2)
        assert (people["ann"].k_version, people["bob"].k_version) == (db.version, None)
        assert [row.k_key for row in s.new] == ["bob"]
        assert [row.k_key for row in s.dirty] == ["ann"]
        number = s.commit()
        assert people["bob"].k_version == number


def test_a_row_that_is_held_shows_what_is_assigned_to_its_key(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        row, tags = people["ann"], people["ann"]["tags"]
        people["ann"] = {"age": 1}
        assert row == {"age": 1}
        assert people["ann"] is row
        with pytest.raises(UsageError, match="earlier snapshot"):
            tags.add("x")
        people["eve"] = row  # a row is a mapping like others
        row["age"] = 2
        s.commit()
    assert (stored(db, "ann"), stored(db, "eve")) == ({"age": 2}, {"age": 1})


def test_the_views_of_a_row_are_those_of_a_dict(db: pykesto.Database) -> None:
    with db.session() as s:
        people = s.table("people")
        people["bob"] = {"a": 1, "b": 2}
        row = people["bob"]
        assert (list(row.keys()), list(row.values()), list(row.items())) == (["a", "b"], [1, 2], [("a", 1), ("b", 2)])
        assert (row.get("a"), row.get("c"), row.get("c", 3), "a" in row, "c" in row) == (1, None, 3, True, False)
        assert dict(row) == {"a": 1, "b": 2} == {**row}
        assert isinstance(row, Mapping)
        match row:
            case {"a": 1}:
                pass
            case _:
                raise AssertionError("a row matches no mapping pattern")
        del people["bob"]
        for use in row.keys, row.items, lambda: row.get("a"), lambda: "a" in row:
            with pytest.raises(KeyError):
                use()
        s.rollback()


def test_rows_that_nobody_holds_are_forgotten_and_those_held_stay_one(db: pykesto.Database) -> None:
    with db.transaction() as s:
        s.table("many").update({n: {"n": n} for n in range(3000)})
    with db.session() as s:
        many = s.table("many")
        held = [row for row in many.query if row.k_key % 100 == 0]
        assert len(many._rows) < 1100  # the held ones, and those of the time since the last look
        assert all(many[row.k_key] is row for row in held)
