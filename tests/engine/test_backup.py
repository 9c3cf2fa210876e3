"""A backup is a database of its own, taken while others go on."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import pykesto


def transfer(s: pykesto.Session, count: int) -> None:
    accounts = s.table("accounts")
    accounts["a"]["balance"] -= count
    accounts["b"]["balance"] += count


def test_a_backup_holds_one_version_while_others_commit(database: Path, tmp_path: Path) -> None:
    with pykesto.open(database) as db:
        with db.transaction() as s:
            s.table("accounts").update({"a": {"balance": 10**9}, "b": {"balance": 0}})
            s.table("accounts").create_index("balance")
        done = threading.Event()

        def go_on() -> None:
            while not done.is_set():
                db.run(transfer, 1)

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            versions = [db.backup(tmp_path / f"copy{n}") for n in range(3)]
        finally:
            done.set()
            thread.join()
    assert versions == sorted(versions)
    for n, version in enumerate(versions):
        with pykesto.open(tmp_path / f"copy{n}") as copy:
            with copy.session(read_only=True) as s:
                rows = s.table("accounts").query
                assert s.version == version
                assert rows.sum("balance") == 10**9
                assert rows.col("balance").between(0, 10**9).count() == 2
            copy.run(transfer, 1)
            assert copy.version > version
            assert copy.check().problems == ()
        with pykesto.open(tmp_path / f"copy{n}") as again, again.session(read_only=True) as s:
            assert s.table("accounts").query.sum("balance") == 10**9


def test_a_backup_does_not_go_over_something(database: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    with pykesto.open(database) as db, pytest.raises(pykesto.UsageError, match="not empty"):
        db.backup(tmp_path / "full")
