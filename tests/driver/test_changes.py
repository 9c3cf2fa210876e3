"""Changes that read first: putkeep, putcat, putproc, counters, callbacks; and the ways to parts of rows."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc
from pykesto.errors import UsageError


def test_putkeep_stores_only_what_is_new(table: tc.Table) -> None:
    table.create_index("age")
    assert table.putkeep(b"ann", {b"age": b"41"})
    assert not table.putkeep(b"ann", {b"age": b"42"})
    assert table[b"ann"] == {b"age": b"41"}
    assert list(table.query.col("age").equals("42")) == []
    with pytest.raises(UsageError, match="empty value"):
        table.putkeep(b"bob", {b"age": b""})
    with pytest.raises(UsageError, match="key is empty"):
        table.putkeep(b"", {})


def test_putcat_adds_only_columns_that_are_not_there(table: tc.Table) -> None:
    table.create_index("name")
    table.putcat(b"ann", {b"age": b"41"})
    table.putcat(b"ann", {b"age": b"42", b"name": b"Ann"})
    assert table[b"ann"] == {b"age": b"41", b"name": b"Ann"}
    assert list(table.query.col("name").equals("Ann")) == [b"ann"]
    with pytest.raises(UsageError, match="empty value"):
        table.putcat(b"ann", {b"name": b""})


def test_putproc_changes_a_row_in_one_step(table: tc.Table) -> None:
    def older(row: dict[bytes, bytes]) -> dict[bytes, bytes]:
        return {**row, b"age": b"%d" % (int(row[b"age"]) + 1)}

    assert not table.putproc(b"ann", older)
    assert b"ann" not in table
    assert table.putproc(b"ann", older, {b"age": b"41"})
    assert table.putproc(b"ann", older)
    assert table[b"ann"] == {b"age": b"42"}
    assert not table.putproc(b"ann", lambda row: None)
    assert table.putproc(b"ann", lambda row: tc.REMOVE)
    assert b"ann" not in table


def test_threads_lose_no_step_of_putproc_or_add_int(table: tc.Table) -> None:
    def work() -> None:
        for _ in range(200):
            table.putproc(b"n", lambda row: {b"n": b"%d" % (int(row[b"n"]) + 1)}, {b"n": b"1"})
            table.add_int(b"count")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (table[b"n"], table[b"count"]) == ({b"n": b"800"}, {b"_num": b"800"})


def callbacks(table: tc.Table) -> dict[str, Any]:
    return {
        "putproc": lambda function: table.putproc(b"ann", lambda row: function()),
        "foreach": lambda function: table.foreach(lambda key, row: function()),
        "process": lambda function: table.query.process(lambda key, row: function()),
    }


@pytest.mark.parametrize("name", ["putproc", "foreach", "process"])
def test_a_callback_that_raises_changes_nothing(table: tc.Table, name: str) -> None:
    table.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}})
    before = dict(table.items())

    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        callbacks(table)[name](fail)
    assert dict(table.items()) == before
    table[b"cy"] = {}


@pytest.mark.parametrize("name", ["putproc", "foreach", "process"])
def test_a_callback_that_uses_the_table_is_refused(table: tc.Table, name: str) -> None:
    table[b"ann"] = {b"age": b"41"}
    uses = [
        lambda: table[b"ann"], lambda: table.put(b"x", {}), lambda: list(table), lambda: table.query.count(),
        table.begin, table.close, table.optimize, lambda: table.putproc(b"ann", lambda row: None),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(UsageError, match="in use by this very thread"):
            callbacks(table)[name](use)
    assert dict(table.items()) == {b"ann": {b"age": b"41"}}


def test_a_callback_may_use_other_tables(table: tc.Table, tmp_path: Path) -> None:
    table.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}})
    with tc.Table(tmp_path / "other", "n") as other:
        table.foreach(other.put)
        table.query.process(lambda key, row: other.get(key))
        assert dict(other.items()) == dict(table.items())


def test_what_a_callback_gives_is_checked(table: tc.Table) -> None:
    table.create_index("age")
    table[b"ann"] = {b"age": b"41"}
    for wrong in (5, {b"age": 5}, {"age": b"5"}):
        with pytest.raises(TypeError):
            table.putproc(b"ann", lambda row, wrong=wrong: wrong)  # type: ignore[misc]
        with pytest.raises(TypeError):
            table.query.process(lambda key, row, wrong=wrong: wrong)  # type: ignore[misc]
    with pytest.raises(UsageError, match="empty value"):
        table.query.update({b"age": b""})
    assert dict(table.items()) == {b"ann": {b"age": b"41"}}


def test_foreach_sees_every_row_and_may_stop(table: tc.Table) -> None:
    table.update((b"%d" % i, {b"i": b"%d" % i}) for i in range(600))
    seen: dict[bytes, dict[bytes, bytes]] = {}
    table.foreach(seen.__setitem__)
    assert seen == dict(table.items())
    few: list[bytes] = []

    def three(key: bytes, row: dict[bytes, bytes]) -> bool:
        few.append(key)
        return len(few) < 3

    table.foreach(three)
    assert len(few) == 3
    long = b"k" * 40_000  # the library writes beyond its stack for such a key
    table[long] = {}
    table.foreach(seen.__setitem__)
    assert long in seen


def test_counters_are_exact(table: tc.Table) -> None:
    assert table.add_int(b"n") == 1
    assert table.add_int(b"n", 2**70) == 2**70 + 1
    assert table.add_int(b"n", -(2**70)) == 1
    assert table.add_double(b"n", 1e-9) == 1.000000001
    assert table[b"n"] == {b"_num": b"1.000000001"}
    with pytest.raises(UsageError, match="_num"):
        table.add_int(b"n")
    with pytest.raises(UsageError):
        table.add_double(b"n", float("inf"))
    table[b"ann"] = {b"name": b"Ann"}
    table.add_int(b"ann", -5)
    assert table[b"ann"] == {b"name": b"Ann", b"_num": b"-5"}
    for wrong in (True, "1", 1.5):
        with pytest.raises(TypeError):
            table.add_int(b"n", wrong)  # type: ignore[arg-type]


def test_ids_are_never_given_twice(path: Path, table: tc.Table) -> None:
    assert [table.new_id() for _ in range(3)] == [1, 2, 3]
    table.begin()
    assert table.new_id() == 4
    table.abort()  # takes it back, as it does the row that was to have it
    table.optimize()
    table.vanish()
    assert (table.id_seed, table.new_id()) == (3, 4)
    table.close()
    with tc.Table(path, "w") as again:
        assert again.new_id() == 5
        again.id_seed = 2**63 - 2
        assert again.new_id() == 2**63 - 1
        with pytest.raises(UsageError, match="no numbers left"):
            again.new_id()
        for wrong in (-1, 2**63):
            with pytest.raises(UsageError, match="id_seed"):
                again.id_seed = wrong


def test_one_column_and_the_size_of_a_row(table: tc.Table) -> None:
    table[b"ann"] = {b"age": b"41", b"note": b"a\0b", b"none": b""}
    assert table.get_column(b"ann", b"age") == b"41"
    assert table.get_column(b"ann", b"note") == b"a\0b"
    assert table.get_column(b"ann", b"none") == b""
    assert table.get_column(b"ann", b"city") is None
    assert table.get_column(b"bob", b"age", b"?") == b"?"
    assert table.row_size(b"ann") == len(table.get_raw(b"ann") or b"")
    with pytest.raises(KeyError):
        table.row_size(b"bob")
    with pytest.raises(TypeError):
        table.get_column(b"ann", "age")  # type: ignore[call-overload]


def test_iteration_from_a_key_on_and_by_prefix(table: tc.Table) -> None:
    table.update((b"%03d" % i, {}) for i in range(700))
    every = list(table)
    for at in (0, 1, 300, 699):
        assert list(table.keys_from(every[at])) == every[at:]
    with pytest.raises(KeyError):
        table.keys_from(b"missing")
    assert sorted(table.keys_with_prefix(b"06")) == [b"06%d" % i for i in range(10)]
    assert len(table.keys_with_prefix(b"0", limit=7)) == 7
    assert table.keys_with_prefix(b"x") == table.keys_with_prefix(b"0", 0) == []
    assert len(table.keys_with_prefix(b"")) == 700
    with pytest.raises(TypeError):
        table.keys_with_prefix("0")  # type: ignore[arg-type]
    iteration = table.keys_from(every[0])
    next(iteration)
    del table[every[5]]
    with pytest.raises(RuntimeError, match="changed during iteration"):
        list(iteration)


@pytest.mark.parametrize("kind", ["token", "qgram"])
def test_a_key_that_an_index_of_words_mistakes_for_another_is_refused(table: tc.Table, kind: Any) -> None:
    table.create_index("text", kind)
    row = {b"text": b"to be"}
    with pytest.raises(UsageError, match="beyond 64 bits"):
        table[b"20000000000000000000"] = row
    table[b"012"] = table[b"12"] = row
    for change in (
        lambda: table.__delitem__(b"012"),
        lambda: table.put(b"012", {}),
        lambda: table.apply_raw([(b"012", None)]),
        lambda: table.query.delete(),
        lambda: table.query.update({b"text": b"x"}),
    ):
        with pytest.raises(UsageError, match="can't change"):
            change()
    assert table.query.col("text").any_word("be").count() == 2
    del table[b"12"]
    del table[b"012"]
    assert table.query.col("text").fts_phrase("be").count() == 0
    table.drop_index("text")
    table[b"20000000000000000000"] = row
    with pytest.raises(UsageError, match="beyond 64 bits"):
        table.create_index("text", kind)


@pytest.mark.parametrize("value", [b"+5", b"inf", b"-NaN", b"1234567890123456789", b"\0 5", b" \x7f5"])
def test_a_value_that_a_decimal_index_would_misplace_is_refused(table: tc.Table, value: bytes) -> None:
    table[b"ann"] = {b"n": value}
    with pytest.raises(UsageError, match="decimal index"):
        table.create_index("n", "decimal")
    del table[b"ann"]
    table.create_index("n", "decimal")
    with pytest.raises(UsageError, match="decimal index"):
        table[b"ann"] = {b"n": value}
    table.create_index("", "decimal")
    with pytest.raises(UsageError, match="decimal index"):
        table[value] = {}
