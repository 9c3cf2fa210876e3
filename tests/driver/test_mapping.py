"""A table is a mutable mapping of bytes to dicts of bytes."""

import doctest
import gc
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykesto import tc
from pykesto.errors import ClosedError, ReadOnlyError, UsageError

keys = st.binary(min_size=1, max_size=3)
rows = st.dictionaries(st.binary(min_size=1, max_size=3), st.binary(max_size=200), max_size=4)
actions = st.sampled_from(["put", "put_raw", "delete", "abort", "commit", "begin"])
steps = st.lists(st.tuples(actions, keys, rows), max_size=40)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_table_does_what_a_dict_does(steps: list[tuple[str, bytes, dict[bytes, bytes]]]) -> None:
    model: dict[bytes, dict[bytes, bytes]] = {}
    saved: dict[bytes, dict[bytes, bytes]] | None = None
    with tempfile.TemporaryDirectory() as directory:
        with tc.Table(Path(directory, "t"), "n", bnum=7) as table, tc.Table(Path(directory, "s"), "n", bnum=7) as other:
            for step, key, row in steps:
                if step == "put":
                    table[key] = model[key] = row
                elif step == "put_raw":
                    other[b"k"] = row
                    table.put_raw(key, other.get_raw(b"k"))  # type: ignore[arg-type]
                    model[key] = row
                elif step == "delete":
                    assert model.pop(key, None) == table.pop(key, None)
                elif step == "begin" and saved is None:
                    saved = dict(model)
                    table.begin()
                elif step == "commit" and saved is not None:
                    saved = None
                    table.commit()
                elif step == "abort" and saved is not None:
                    model, saved = saved, None
                    table.abort()
                assert len(table) == len(model)
            assert dict(table.items()) == model
            assert all(table[key] == row for key, row in model.items())
            if saved is not None:
                model = saved
        with tc.Table(Path(directory, "t")) as table:
            assert dict(table.items()) == model


def test_every_method_of_a_mapping_is_there(table: tc.Table) -> None:
    assert isinstance(table, MutableMapping)
    row = {b"name": b"Ann"}
    assert table.setdefault(b"ann", row) == row
    table.update({b"bob": {b"name": b"Bob"}, b"cy": {}})
    assert set(table) == set(table.keys()) == {b"ann", b"bob", b"cy"}
    assert b"ann" in table
    assert b"dan" not in table
    assert {} in list(table.values())
    assert table.get(b"dan") is None
    assert table.get(b"dan", row) is row
    assert table.pop(b"ann") == row
    assert table.popitem()[0] in {b"bob", b"cy"}
    table.clear()
    assert len(table) == 0
    with pytest.raises(KeyError):
        table.popitem()


def test_a_missing_key_is_a_key_error(table: tc.Table) -> None:
    with pytest.raises(KeyError, match="ann"):
        table[b"ann"]
    with pytest.raises(KeyError, match="ann"):
        del table[b"ann"]


def test_a_wrong_type_is_named(table: tc.Table) -> None:
    with pytest.raises(TypeError, match="key must be bytes, not str"):
        table["ann"] = {}  # type: ignore[index]
    with pytest.raises(TypeError, match="column name must be bytes, not str"):
        table[b"ann"] = {"name": b"Ann"}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="value of column b'age' must be bytes, not int"):
        table[b"ann"] = {b"age": 41}  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="row must be a mapping"):
        table[b"ann"] = [b"age"]  # type: ignore[assignment]
    with pytest.raises(TypeError, match="key must be bytes"):
        table.__contains__("ann")
    assert len(table) == 0


def test_an_empty_key_or_column_name_is_refused(table: tc.Table) -> None:
    with pytest.raises(UsageError, match="key is empty"):
        table[b""] = {}
    with pytest.raises(UsageError, match="empty name"):
        table[b"ann"] = {b"": b"x"}
    with pytest.raises(UsageError, match="empty name"):
        table.put_raw(b"ann", b"\x00\x01x")
    assert b"" not in table
    assert table.get(b"") is None


def test_two_iterations_run_at_once(table: tc.Table) -> None:
    names = {b"%d" % i for i in range(1000)}
    table.update((name, {}) for name in names)
    first, second = iter(table), iter(table)
    pairs = list(zip(first, second, strict=True))
    assert {a for a, _ in pairs} == {b for _, b in pairs} == names


def test_a_change_ends_an_iteration_clearly(table: tc.Table) -> None:
    table.update((b"%d" % i, {}) for i in range(1000))
    iteration = zip(iter(table), range(1000), strict=True)
    table[next(iteration)[0]] = {b"more": b"x" * 100}
    with pytest.raises(RuntimeError, match="changed during iteration"):
        list(iteration)
    for key in list(table):
        del table[key]
    assert len(table) == 0


def test_a_reader_can_not_write(path: Path, table: tc.Table) -> None:
    table[b"ann"] = {}
    table.close()
    with tc.Table(path) as reader:
        for change in (
            lambda: reader.put(b"ann", {}),
            lambda: reader.pop(b"ann"),
            reader.vanish,
            reader.begin,
            reader.sync,
            lambda: reader.create_index("age"),
            reader.query.delete,
        ):
            with pytest.raises(ReadOnlyError):
                change()
        assert len(reader) == 1


def test_a_closed_table_says_so(path: Path, table: tc.Table) -> None:
    table.create_index("age")
    table[b"ann"] = {b"age": b"41"}
    iteration, batches, cursor, query = iter(table), table.raw_batches(9), table.index_cursor(b"age"), table.query
    table.close()
    table.close()
    for use in (
        lambda: len(table),
        lambda: table[b"ann"],
        lambda: table.get_raw(b"ann"),
        lambda: next(iteration),
        lambda: next(batches),
        lambda: cursor.next_batch(1),
        cursor.seek_first,
        lambda: list(query),
        table.__enter__,
    ):
        with pytest.raises(ClosedError, match=r"people\.tct is closed"):
            use()
    assert "closed" in repr(table)


def test_a_table_let_go_of_is_closed(path: Path) -> None:
    table = tc.Table(path, "n")
    table.create_index("age")
    table[b"ann"] = {b"age": b"41"}
    cursor = table.index_cursor(b"age")
    del table
    gc.collect()
    cursor.seek_first()
    assert cursor.next_batch(9) == [(b"41", b"ann")]
    del cursor
    with tc.Table(path) as reader:
        assert list(reader.query.col("age").equals("41")) == [b"ann"]


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    import pykesto.tc

    finder = doctest.DocTestParser()
    runner = doctest.DocTestRunner()
    for subject in (pykesto.tc, tc.Table, tc.Query, tc.IndexCursor):
        doc = subject.__doc__ or ""
        runner.run(finder.get_doctest(doc, {"Table": tc.Table}, str(subject), None, 0))
    assert runner.summarize(verbose=False) == (0, runner.tries)
    assert runner.tries >= 4
