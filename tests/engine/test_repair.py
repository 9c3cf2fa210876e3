"""Repair takes each row from where it is whole, and refuses to guess."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import pykesto
from pykesto import CorruptionError

ROWS = {f"user{n}": {"name": f"the name of {n}", "age": n, "padding": "x" * 200} for n in range(300)}


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """A database with two bases of the same rows, a record later in the journal, and an index."""
    path = tmp_path / "app.kesto"
    with pykesto.open(path) as db:
        with db.transaction() as s:
            s.table("people").create_index("age")
            for key, row in ROWS.items():
                s.table("people")[key] = row
        for n in range(2):
            with db.transaction() as s:
                s.table("people")["last"] = {"age": n}
            db.checkpoint()
        with db.transaction() as s:
            s.table("people")["user7"]["age"] = 1007
    yield path
    with pykesto.open(path) as db:
        assert db.check().ok


def expected() -> dict[str, dict[str, object]]:
    rows: dict[str, dict[str, object]] = {key: dict(row) for key, row in ROWS.items()}
    rows["user7"]["age"] = 1007
    return rows | {"last": {"age": 1}}


def damage(file: Path, needle: bytes) -> None:
    content = bytearray(file.read_bytes())
    at = content.find(needle)
    assert at > 0
    content[at] ^= 0x20
    file.write_bytes(content)


def current(path: Path) -> int:
    with pykesto.open(path) as db:
        return db._attached().store.view.control.base_word() & 0xFF


def everything(db: pykesto.Database) -> dict[str, dict[str, object]]:
    with db.session() as s:
        return {row.k_key: row.to_dict() for row in s.table("people").query}


def table_of(path: Path, base: int) -> Path:
    return next((path / "base" / str(base)).glob("*people*.tct"))


def test_there_is_nothing_to_repair_in_a_sound_database(path: Path) -> None:
    before = current(path)
    with pykesto.open(path) as db:
        assert db.repair().ok
        assert everything(db) == expected()
    assert current(path) == before


def test_a_damaged_current_base_is_rebuilt_from_the_other_one(path: Path) -> None:
    base = current(path)
    damage(table_of(path, base), b"the name of 99")
    with pykesto.open(path) as db:
        assert not db.check().ok
        assert db.repair().ok
        assert everything(db) == expected()
        assert db.checkpoint() is not None
    assert current(path) != base


def test_each_row_is_taken_from_where_it_is_whole_when_both_bases_are_damaged(path: Path) -> None:
    base = current(path)
    damage(table_of(path, base), b"the name of 99")
    damage(table_of(path, 1 - base), b"the name of 101")
    with pykesto.open(path) as db:
        assert db.repair().ok
        assert everything(db) == expected()


def test_a_damaged_row_that_was_written_again_since_is_no_loss(path: Path) -> None:
    for base in (0, 1):
        damage(table_of(path, base), b"the name of 7")
    with pykesto.open(path) as db:
        assert db.repair().ok
        assert everything(db) == expected()


def test_an_index_is_rebuilt_from_the_rows(path: Path) -> None:
    for base in (0, 1):
        index = next((path / "base" / str(base)).glob("*people*.idx.age*"))
        content = index.read_bytes()
        damage(index, b"user250" if b"user250" in content else content[-64:-56])
    with pykesto.open(path) as db:
        if not db.check().ok:
            assert db.repair().ok
        assert everything(db) == expected()


def test_rows_that_nothing_has_whole_are_named_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "app.kesto"
    with pykesto.open(path) as db:
        with db.transaction() as s:
            for key, row in ROWS.items():
                s.table("people")[key] = row
        for n in range(2):
            with db.transaction() as s:
                s.table("other")["last"] = {"age": n}
            db.checkpoint()
    for base in (0, 1):
        damage(table_of(path, base), b"the name of 99")
    before = current(path)
    with pykesto.open(path) as db:
        with pytest.raises(CorruptionError, match="user99"):
            db.repair()
    assert current(path) == before
