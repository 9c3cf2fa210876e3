"""Transactions of a table."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import UsageError


def test_a_transaction_is_kept_or_undone_indexes_included(table: tc.Table) -> None:
    table.create_index("age")
    with table.transaction():
        table[b"ann"] = {b"age": b"41"}
        assert table.in_transaction
    with pytest.raises(KeyError), table.transaction():  # noqa: PT012  # the change before the error is the point
        table[b"ann"] = {b"age": b"42"}
        table[b"bob"] = {b"age": b"29"}
        del table[b"missing"]
    assert not table.in_transaction
    assert dict(table.items()) == {b"ann": {b"age": b"41"}}
    assert list(table.query.col("age").equals("41")) == [b"ann"]
    assert table.query.col("age").equals("29").count() == 0


def test_transactions_do_not_nest(table: tc.Table) -> None:
    table.begin()
    with pytest.raises(UsageError, match="don't nest"):
        table.begin()
    table.commit()
    with pytest.raises(UsageError, match="without a transaction"):
        table.commit()
    with pytest.raises(UsageError, match="without a transaction"):
        table.abort()


def test_maintenance_is_refused_inside_a_transaction(table: tc.Table, tmp_path: Path) -> None:
    table.create_index("age")
    with table.transaction():
        calls: dict[str, Callable[[], None]] = {
            "create_index": lambda: table.create_index("name"),
            "drop_index": lambda: table.drop_index("age"),
            "optimize_index": lambda: table.optimize_index("age"),
            "optimize": table.optimize,
            "vanish": table.vanish,
            "sync": table.sync,
            "copy": lambda: table.copy(tmp_path / "copy"),
        }
        for name, call in calls.items():
            with pytest.raises(UsageError, match=f"{name} can't run inside a transaction"):
                call()
        table[b"ann"] = {}
        table.clear()
    assert len(table) == 0


def test_closing_aborts_an_open_transaction(path: Path, table: tc.Table) -> None:
    table[b"ann"] = {b"age": b"41"}
    table.begin()
    table[b"bob"] = {}
    table.close()
    with tc.Table(path) as reader:
        assert list(reader) == [b"ann"]
