"""Indexes of columns, and cursors over the lexical ones."""

import bisect
import random
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc
from pykesto.errors import UsageError


def test_indexes_are_made_kept_and_dropped(path: Path, table: tc.Table) -> None:
    table[b"ann"] = {b"age": b"41", b"text": b"to be or not"}
    table.create_index("age", "decimal")
    table.create_index(b"text", "token")
    table.create_index("q", "qgram")
    table.create_index("")
    assert table.indexes() == {b"age": "decimal", b"text": "token", b"q": "qgram", b"": "lexical"}
    table.create_index("age", "lexical", keep=True)
    assert table.indexes()[b"age"] == "decimal"
    table.create_index("age", "lexical")
    assert table.has_index(b"age")
    assert table.indexes()[b"age"] == "lexical"
    table.optimize_index("age")
    table.drop_index("q")
    table.close()
    with tc.Table(path) as reader:
        assert reader.indexes() == {b"age": "lexical", b"text": "token", b"": "lexical"}
    assert not (path.parent / "people.tct.idx.q.qgr").exists()


@pytest.mark.parametrize("kind", ["lexical", "decimal"])
def test_an_empty_value_in_an_index_is_refused_before_the_library_aborts(table: tc.Table, kind: str) -> None:
    table.create_index("age", kind)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"b'age' has a {kind} index, which can't hold an empty value"):
        table[b"ann"] = {b"age": b""}
    table[b"ann"] = {b"name": b""}
    table.create_index("text", "token")
    table[b"bob"] = {b"text": b""}
    with pytest.raises(UsageError, match="row b'ann'"):
        table.create_index("name", kind)  # type: ignore[arg-type]
    assert not table.has_index(b"name")


def test_names_that_the_library_would_mix_up_are_refused(table: tc.Table) -> None:
    table.create_index("age")
    table.create_index("")
    with pytest.raises(UsageError, match="NUL"):
        table[b"ann"] = {b"age\0x": b""}
    with pytest.raises(UsageError, match="NUL"):
        table[b"ann"] = {b"\0x": b"y"}
    with pytest.raises(UsageError, match="NUL"):
        table.create_index(b"a\0b")
    table[b"ann"] = {b"other\0": b"y"}
    with pytest.raises(UsageError, match="row b'ann'"):
        table.create_index("other")


def test_unknown_indexes_and_kinds_are_refused(table: tc.Table) -> None:
    with pytest.raises(UsageError, match="no index"):
        table.drop_index("age")
    with pytest.raises(UsageError, match="no index"):
        table.index_cursor(b"age")
    with pytest.raises(UsageError, match="kind must be"):
        table.create_index("age", "btree")  # type: ignore[arg-type]
    table.create_index("age", "decimal")
    with pytest.raises(UsageError, match="decimal, not lexical"):
        table.index_cursor(b"age")


def test_an_index_whose_file_can_not_be_made_leaves_the_table_usable(table: tc.Table) -> None:
    with pytest.raises(tc.Error):
        table.create_index("x" * 300)
    assert table.indexes() == {}
    table[b"ann"] = {b"x" * 300: b"1"}
    assert len(table) == 1


def filled(table: tc.Table, seed: int) -> list[tuple[bytes, bytes]]:
    chooser = random.Random(seed)
    table.create_index("v")
    entries = []
    for i in range(3000):
        value = bytes(chooser.choices(b"ab\x01\xff", k=chooser.randint(1, 6)))
        table[b"%04d" % i] = {b"v": value}
        entries.append((value, b"%04d" % i))
    for key in chooser.sample([key for _, key in entries], 500):
        del table[key]
    return sorted(entry for entry in entries if entry[1] in table)


def everything(cursor: tc.IndexCursor, backwards: bool, size: int) -> list[tuple[bytes, bytes]]:
    entries = []
    while batch := (cursor.prev_batch(size) if backwards else cursor.next_batch(size)):
        entries += batch
    return entries


@pytest.mark.parametrize("seed", range(3))
def test_a_cursor_walks_both_ways_from_any_value(table: tc.Table, seed: int) -> None:
    entries = filled(table, seed)
    values = [value for value, _ in entries]
    cursor = table.index_cursor(b"v")
    for value in [b"", b"a", b"ab", b"b\x01", b"\xff", b"\xff" * 9, b"a\xff", *random.Random(seed).sample(values, 60)]:
        at = bisect.bisect_left(values, value)
        assert cursor.seek(value) == (at < len(values))
        found = everything(cursor, False, 97)
        assert [v for v, _ in found] == values[at:]
        assert sorted(found) == entries[at:]
        assert cursor.seek_before(value) == (at > 0)
        found = everything(cursor, True, 97)
        assert [v for v, _ in found] == values[:at][::-1]
        assert sorted(found) == entries[:at]
    assert cursor.seek_first()
    assert sorted(everything(cursor, False, 7)) == entries
    assert cursor.seek_last()
    assert sorted(everything(cursor, True, 7)) == entries


def test_a_cursor_walks_the_primary_key(table: tc.Table) -> None:
    table.create_index("")
    table.update((b"%03d" % i, {}) for i in range(500))
    cursor = table.index_cursor(b"")
    cursor.seek(b"250")
    assert cursor.next_batch(2) == [(b"250", b"250"), (b"251", b"251")]
    cursor.seek_before(b"250")
    assert cursor.prev_batch(2) == [(b"249", b"249"), (b"248", b"248")]
    assert not cursor.seek_before(b"000")
    assert cursor.prev_batch(1) == []


def test_a_cursor_on_an_empty_index_finds_nothing(table: tc.Table) -> None:
    table.create_index("v")
    cursor = table.index_cursor(b"v")
    assert not cursor.seek(b"")
    assert not cursor.seek_first()
    assert not cursor.seek_last()
    assert not cursor.seek_before(b"z")
    assert cursor.next_batch(5) == cursor.prev_batch(5) == []


def test_a_cursor_notices_changes(table: tc.Table) -> None:
    filled(table, 0)
    cursor = table.index_cursor(b"v")
    cursor.seek_first()
    del table[cursor.next_batch(1)[0][1]]
    with pytest.raises(UsageError, match="changed under the cursor"):
        cursor.next_batch(1)
    assert cursor.seek_first()
    table.drop_index("v")
    with pytest.raises(UsageError):
        cursor.next_batch(1)
    with pytest.raises(UsageError, match="no index"):
        cursor.seek(b"")


def test_a_cursor_may_go_to_and_fro(table: tc.Table) -> None:
    table.create_index("n")
    table.update((b"%d" % i, {b"n": b"%02d" % i}) for i in range(20))
    cursors = [table.index_cursor(b"n") for _ in range(2)]
    for cursor in cursors:
        assert cursor.seek(b"05")
    for _ in range(30):
        for cursor in cursors:
            assert [key for _, key in cursor.next_batch(5)] == [b"5", b"6", b"7", b"8", b"9"]
            assert [key for _, key in cursor.prev_batch(5)] == [b"10", b"9", b"8", b"7", b"6"]


def test_keys_are_listed_by_the_driver_as_by_the_library(path: Path, table: tc.Table) -> None:
    """Where keys alone are indexed, rows are stored as they are; beside another index they are not."""
    rng = random.Random(7)
    table.create_index("")
    with tc.Table(path.with_name("other.tct"), "n") as other:
        other.create_index("")
        other.create_index("n", "token")
        for round in range(60):
            tables = (table, other)
            for each in tables:
                each.begin()
            for key in rng.sample([b"%d" % i for i in range(80)] + [b"\x00", b"\xff" * 300], 12):
                kind, row = rng.randrange(4), {b"v": b"x" * rng.randrange(9)}
                for each in tables:
                    if kind == 0:
                        each[key] = row
                    elif kind == 1:
                        each.put_raw(key, b"\x01v" + bytes([len(row[b"v"])]) + row[b"v"])
                    else:
                        each.apply_raw([(key, None if kind == 2 else b"\x01v\x01y")])
            for each in tables:
                each.abort() if round % 3 == 2 else each.commit()
            cursors = [each.index_cursor(b"") for each in tables]
            listed = [everything(cursor, False, 7) for cursor in cursors if cursor.seek_first()]
            assert listed[0] == listed[1] == [(key, key) for key in sorted(table)]
            assert dict(table) == dict(other)
    table.close()
    assert tc.verify(path) == []


@pytest.mark.parametrize("kind", ["lexical", "token"])
def test_a_large_index_is_rebuilt(table: tc.Table, kind: Any) -> None:
    """Of more entries than what bounds a single walk through pages."""
    table.apply_raw([(b"%d" % i, b"\x01n\x05%05d" % i) for i in range(36_000)])
    table.create_index("n", kind)
    table.optimize_index("n")
    column = table.query.col("n")
    query = column.startswith("0") if kind == "lexical" else column.any_word("00017")
    assert query.count() == (10_000 if kind == "lexical" else 1)
    assert "using an index" in query.hint
