"""What nobody should do and somebody does: an exception, or a right answer; nothing ends the process."""

import os
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc
from pykesto.errors import ClosedError, StorageError, UsageError

RAW = b"\x01a\x011"


class Loud(bytes):
    """Bytes that run Python when they are looked at."""

    def __bool__(self) -> bool:
        raise AssertionError

    def __len__(self) -> int:
        raise AssertionError


def test_subclasses_of_bytes_are_refused_by_name(table: tc.Table) -> None:
    with pytest.raises(TypeError, match="key must be bytes, not Loud"):
        table[Loud(b"k")] = {}
    with pytest.raises(TypeError, match="column name must be bytes, not Loud"):
        table[b"k"] = {Loud(b"a"): b"1"}
    with pytest.raises(TypeError, match="value of column b'a' must be bytes, not Loud"):
        table[b"k"] = {b"a": Loud(b"1")}


def test_raw_changes_may_be_any_pairs(table: tc.Table) -> None:
    pairs: list[Any] = [iter((b"key %d" % n * 50, bytes(bytearray(RAW)))) for n in range(500)]
    pairs += [[b"a list %d" % n * 50, RAW] for n in range(500)]
    table.apply_raw(pairs)
    assert set(table) == {text % n * 50 for text in (b"key %d", b"a list %d") for n in range(500)}


def test_nothing_is_made_without_its_table(table: tc.Table) -> None:
    made = (
        table.query, table.query.col("a"), table.query | table.query, table.transaction(), table.raw_batches(1),
        table.query.rows(),
    )  # fmt: skip
    for kind in (*map(type, made), tc.IndexCursor, tc.IndexPages, *tc.Table.__mro__[1:-1], *tc.Query.__mro__[1:-1]):
        with pytest.raises(TypeError):
            kind.__new__(kind)  # type: ignore[call-overload]


def test_a_table_that_was_never_opened_is_closed(path: Path) -> None:
    for arguments in ((), (path, "x"), (path, "r")):
        table = tc.Table.__new__(tc.Table)
        if arguments:
            with pytest.raises((UsageError, tc.Error)):
                table.__init__(*arguments)  # type: ignore[misc]
        with pytest.raises(ClosedError):
            len(table)
        with pytest.raises(ClosedError):
            table.query.count()
        table.close()
        assert "closed" in repr(table)


def test_a_cursor_keeps_its_index(table: tc.Table, tmp_path: Path) -> None:
    with tc.Table(tmp_path / "other", "n") as other:
        other.create_index("a")
        table.create_index("a")
        table[b"k"] = {b"a": b"1"}
        cursor = table.index_cursor(b"a")
        cursor.seek_first()
        cursor.__init__(other, b"nothing")  # type: ignore[misc]
        assert cursor.next_batch(5) == [(b"1", b"k")]


def test_queries_nest_as_deeply_as_python_allows(table: tc.Table) -> None:
    table[b"k"] = {b"a": b"1"}
    query = table.query
    chain = nested = query | query
    for n in range(3000):
        chain |= query
        nested = (nested | query) if n % 2 else (nested & query).limit(10)
    assert list(chain) == [b"k"] and chain.hint.count("scanning") == 3002
    for run in (nested.count, lambda: nested.hint, nested.delete):
        with pytest.raises(RecursionError):
            run()
    assert list(query) == [b"k"]


# --- Names ----------------------------------------------------------------------------------------------------------


def test_a_link_is_the_table_that_it_points_to(path: Path, tmp_path: Path) -> None:
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    link = directory / "link"
    link.symlink_to(path)
    with tc.Table(link, "c") as table:
        table.create_index("a")
        table[b"k"] = {b"a": b"1"}
        with pytest.raises(UsageError, match="open in this process"):
            tc.Table(path)
    with tc.Table(path, "w") as table:
        table[b"l"] = {b"a": b"1"}
    with tc.Table(link, "w") as table:
        assert (
            set(table.query.col("a").equals("1")) == {b"k", b"l"} and "index" in table.query.col("a").equals("1").hint
        )
        table.optimize()
        assert table.path == str(path)
        with pytest.raises(UsageError, match="exists"):
            table.copy(link)
    assert link.is_symlink() and os.listdir(directory) == ["link"] and tc.verify(link) == []


def test_a_file_that_was_moved_away_is_not_looked_for_by_its_name(path: Path, tmp_path: Path) -> None:
    with tc.Table(path, "n") as table:
        table.create_index("a")
        table[b"k"] = {b"a": b"1"}
        path.rename(tmp_path / "moved")
        for successor in (None, b"of somebody else"):
            if successor:
                path.write_bytes(successor)
            for change in (
                table.optimize, table.vanish, table.begin, lambda: table.create_index("b"),
                lambda: table.drop_index("a"), lambda: table.optimize_index("a"),
            ):  # fmt: skip
                with pytest.raises(StorageError, match="moved, replaced or deleted"):
                    change()
        table[b"l"] = {b"a": b"2"}
    assert path.read_bytes() == b"of somebody else"
    with tc.Table(tmp_path / "moved") as table:
        assert set(table) == {b"k", b"l"}
