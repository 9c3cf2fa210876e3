"""A flipped bit is reported with the file's name, and never read as data. A torn tail is no damage."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import pykesto
from pykesto import CorruptionError
from pykesto.journal.format import HEADER_SIZE, mark_offset, parse_header, parse_mark
from tests.processes import Worker, open_database, put

Start = Callable[[], Worker]
VALUE = "a value that is nowhere else"


def flip(path: Path, needle: bytes) -> None:
    """Change one bit in the middle of the last `needle` of a file."""
    content = bytearray(path.read_bytes())
    content[content.rindex(needle) + len(needle) // 2] ^= 0x10
    path.write_bytes(content)


def in_base(tmp_path: Path) -> tuple[Path, Path]:
    """A database, and the file of its base in which VALUE is."""
    path = tmp_path / "app.kesto"
    with pykesto.open(path) as db:
        with db.transaction() as s:
            s.table("people")["ann"] = {"said": VALUE}
            s.table("people")["bob"] = {"said": "nothing"}
        assert db.checkpoint().done
    (file,) = (file for file in path.glob("base/*/*.tct") if VALUE.encode() in file.read_bytes())
    return path, file


def test_a_flipped_byte_in_a_row_of_a_base_is_reported_when_it_is_read(tmp_path: Path) -> None:
    path, file = in_base(tmp_path)
    flip(file, VALUE.encode())
    with pykesto.open(path) as db, db.session() as s:
        assert s.table("people")["bob"]["said"] == "nothing"
        with pytest.raises(CorruptionError) as caught:
            s.table("people")["ann"]["said"]
        assert caught.value.path == str(file)
        assert str(file) in str(caught.value)


def test_a_flipped_byte_in_a_row_of_a_base_is_reported_by_a_query(tmp_path: Path) -> None:
    path, file = in_base(tmp_path)
    flip(file, VALUE.encode())
    with pykesto.open(path) as db, db.session() as s:
        with pytest.raises(CorruptionError):
            list(s.table("people").query.col("said").startswith("a"))


def test_the_checker_finds_a_flipped_byte_in_a_row_of_a_base(tmp_path: Path) -> None:
    path, file = in_base(tmp_path)
    flip(file, VALUE.encode())
    with pykesto.open(path) as db:
        (problem,) = db.check().problems
        assert str(file) in problem


def in_journal(tmp_path: Path) -> tuple[Path, Path]:
    """A database that was closed cleanly, and the segment of its journal in which VALUE is, with records after it."""
    path = tmp_path / "app.kesto"
    with pykesto.open(path) as db:
        for key, said in (("ann", VALUE), ("bob", "nothing"), ("eve", "the last word")):
            with db.transaction() as s:
                s.table("people")[key] = {"said": said}
    (segment,) = (file for file in (path / "journal").iterdir() if VALUE.encode() in file.read_bytes())
    return path, segment


@pytest.mark.parametrize("where", [VALUE, "the last word"])
def test_a_flipped_byte_in_the_journal_before_its_durable_end_is_reported_on_opening(
    tmp_path: Path, where: str
) -> None:
    path, segment = in_journal(tmp_path)
    flip(segment, where.encode())
    for _ in range(2):  # a refused opening changes nothing
        with pytest.raises(CorruptionError) as caught:
            pykesto.open(path)
        assert caught.value.path == str(segment)
        assert caught.value.offset is not None
        damaged = segment.read_bytes()[caught.value.offset :]
        assert damaged.count(b"said") == (3 if where == VALUE else 1)  # where the record begins, not where the bit is


def test_a_flipped_byte_in_a_durable_record_is_reported_after_an_unclean_end(
    tmp_path: Path, start_worker: Start
) -> None:
    path = tmp_path / "killed.kesto"
    worker = start_worker()
    worker.call(open_database, path)
    for key, said in (("ann", VALUE), ("bob", "nothing"), ("eve", "the last word")):
        worker.call(put, key, {"said": said})
    worker.kill()
    (segment,) = (file for file in (path / "journal").iterdir() if VALUE.encode() in file.read_bytes())
    flip(segment, VALUE.encode())
    with pytest.raises(CorruptionError, match="durable"):
        pykesto.open(path)


@pytest.mark.parametrize("end", ["clean", "killed"])
@pytest.mark.parametrize("garbage", [b"\xff" * 1000, b"\x01", bytes(range(256)) * 4])
def test_garbage_after_the_end_of_the_journal_is_a_torn_tail_and_nothing_is_lost(
    database: Path, start_worker: Start, end: str, garbage: bytes
) -> None:
    worker = start_worker()
    worker.call(open_database, database)
    for key in range(3):
        worker.call(put, key, {"said": VALUE})
    worker.kill() if end == "killed" else worker.end()
    segment = max((database / "journal").iterdir())
    content = segment.read_bytes()
    used = (len(content.rstrip(b"\0")) + 7) // 8 * 8
    segment.write_bytes(content[:used] + garbage + content[used + len(garbage) :])
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == [0, 1, 2]
        s.table("people")[3] = {"said": VALUE}
        s.commit()
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == [0, 1, 2, 3]


def test_a_segment_that_is_missing_in_the_midst_is_reported(tmp_path: Path, start_worker: Start) -> None:
    path = tmp_path / "killed.kesto"
    for key in range(3):
        worker = start_worker()
        worker.call(open_database, path)
        worker.call(put, key, {})
        worker.kill()  # so that the next one begins a segment
    segments = sorted((path / "journal").iterdir())
    assert len(segments) >= 3
    segments[-2].unlink()
    with pytest.raises(CorruptionError, match="missing"):
        pykesto.open(path)


def test_a_journal_that_ends_before_its_bases_is_reported(tmp_path: Path) -> None:
    path, segment = in_journal(tmp_path)
    with pykesto.open(path) as db:
        for key in range(2):
            with db.transaction() as s:
                s.table("people")[key] = {}
            assert db.checkpoint().done
    segment.unlink()
    with pytest.raises(CorruptionError, match="journal"):
        pykesto.open(path)


def test_a_damaged_segment_header_is_reported(tmp_path: Path) -> None:
    path, segment = in_journal(tmp_path)
    content = bytearray(segment.read_bytes())
    content[16] ^= 1
    segment.write_bytes(content)
    with pytest.raises(CorruptionError) as caught:
        pykesto.open(path)
    assert caught.value.path == str(segment)


def test_a_control_page_of_garbage_is_never_believed(database: Path) -> None:
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("people")["ann"] = {}
    size = (database / "control").stat().st_size
    (database / "control").write_bytes(b"\xa5" * size)
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == ["ann"]


def test_a_lost_control_page_is_made_again(database: Path) -> None:
    with pykesto.open(database) as db, db.transaction() as s:
        s.table("people")["ann"] = {}
    (database / "control").unlink()
    with pykesto.open(database) as db, db.session() as s:
        assert list(s.table("people")) == ["ann"]


def test_a_damaged_mark_does_not_hide_what_was_committed_after_an_older_clean_one(tmp_path: Path) -> None:
    path = tmp_path / "app.kesto"
    with pykesto.open(path) as db, db.transaction() as s:
        s.table("people")["ann"] = {}
    if (pid := os.fork()) == 0:  # goes on in the segment that says that it was closed, and dies
        db = pykesto.open(path)
        with db.transaction() as s:
            s.table("people")["bob"] = {}
        os._exit(0)
    os.waitpid(pid, 0)
    segment = max((path / "journal").glob("*.kj"))
    mark = parse_mark(segment.read_bytes()[:HEADER_SIZE], parse_header(segment.read_bytes()[:HEADER_SIZE]).salt)  # type: ignore[union-attr]
    assert mark is not None
    assert not mark.clean
    with segment.open("r+b") as file:
        file.seek(mark_offset(mark.sequence) + 9)
        file.write(b"\x77")
    with pykesto.open(path) as db, db.session() as s:
        assert sorted(s.table("people")) == ["ann", "bob"]
