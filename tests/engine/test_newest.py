"""What a checkpoint gathers from the journal is what a plain reading of it gives."""

import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykesto import CorruptionError, tc
from pykesto.engine.content import Commit, pack_commit
from pykesto.engine.guard import pack_row, stored_key
from pykesto.engine.newest import Newest, images_of
from pykesto.engine.schema import Schema
from pykesto.store import IndexDefinition, Row, SchemaChange
from tests.journal.journals import Journal

IMAGE = b"\x01a\x01b"  # a row as the codec packs it: one column
Newer = dict[str, dict[bytes, Row | None]]

keys = st.binary(min_size=1, max_size=3)
rows = st.dictionaries(keys, st.sampled_from([IMAGE, b"\x01a\x02bc", None]), max_size=4)
changes = st.sampled_from(
    [
        (),
        (SchemaChange("create_index", "t1", IndexDefinition("a")),),
        (SchemaChange("drop_index", "t1", IndexDefinition("a")),),
        (SchemaChange("drop_table", "t2"),),
    ]
)
commits = st.builds(
    Commit,
    st.dictionaries(st.sampled_from(["t1", "t2", "t\u00e9"]), rows, max_size=3),
    st.one_of(st.just(()), changes),
    st.sampled_from([{"pid": 1}, {"pid": 22}, {"pid": 1, "note": "who"}]),
    st.integers(0, 2**63),
)


def by_hand(journal: Journal, history: list[Commit]) -> tuple[Newer, Schema]:
    """The newest images by a dict of dicts, and the schema."""
    found: Newer = {}
    schema = Schema({})
    for record, commit in zip(journal.records(), history, strict=True):
        schema.apply(commit.schema, commit.rows)
        for table, images in commit.rows.items():
            for key, image in images.items():
                found.setdefault(table, {})[key] = None if image is None else Row(record.number, image)
    return found, schema


def gathered(
    journal: Journal, *, enough: int | None = None, compact_bytes: int = 64 << 20
) -> tuple[Newer, Newest, int]:
    newest = Newest(Schema({}), compact_bytes=compact_bytes)
    reader = journal.reader_from_start()
    end = journal.state.end
    reader.gather(journal.state, newest, until=end, enough=end if enough is None else enough)
    found = {}
    for table, images in newest.tables().items():
        listed = list(images.items())
        assert [key for key, _ in listed] == sorted(key for key, _ in listed)
        assert len(images) == len(listed)
        found[table] = dict(listed)
    return found, newest, reader.position


@given(history=st.lists(commits, max_size=25))
def test_it_finds_what_is_there(tmp_path_factory: pytest.TempPathFactory, history: list[Commit]) -> None:
    journal = Journal(tmp_path_factory.mktemp("newest"))
    try:
        for commit in history:
            journal.append(pack_commit(commit))
        found, newest, position = gathered(journal)
        expected, schema = by_hand(journal, history)
        assert found == expected
        assert newest.schema.tables() == schema.tables()
        assert (newest.commits, position) == (len(history), journal.state.end)
    finally:
        journal.close()


def test_large_records_many_tables_and_several_segments(tmp_path: Path) -> None:
    chance = random.Random(7)
    history = []
    journal = Journal(tmp_path)
    try:
        for number in range(3000):
            table = f"table {chance.randrange(100)}"  # more than are looked through
            size = chance.choice([2, 200, 9000]) if number % 500 else 3 << 20
            value = b"x" * size
            image = b"\x01a" + tc_varint(size) + value
            history.append(Commit({table: {b"%d" % chance.randrange(20): image}}, (), {"pid": 1}, number))
            journal.append(pack_commit(history[-1]))
        assert journal.state.segment > 1
        for compact_bytes in 0, 100_000, 64 << 20:
            found, newest, position = gathered(journal, compact_bytes=compact_bytes)
            assert found == by_hand(journal, history)[0]
            assert (newest.commits, position) == (3000, journal.state.end)
    finally:
        journal.close()


def test_commits_of_many_processes_with_notes_are_not_unpacked(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    try:
        for number in range(1000):
            about = {"pid": number % 7, "note": f'request {number}, "schema": []}}'}
            journal.append(pack_commit(Commit({f"t{number % 3}": {b"%d" % (number % 50): IMAGE}}, (), about, number)))
        _, newest, _ = gathered(journal)
        assert (newest.commits, newest.unpacked) == (1000, 3)  # one for each table that was not known
    finally:
        journal.close()


def test_memory_follows_the_rows_and_not_the_journal(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    try:
        image = b"\x01a" + tc_varint(50_000) + b"x" * 50_000
        for number in range(1000):
            journal.append(pack_commit(Commit({"t": {b"%d" % (number % 10): image}}, (), {"pid": 1}, number)))
        tracemalloc.start()
        try:
            gathered(journal, compact_bytes=1 << 20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 10 << 20
    finally:
        journal.close()


def tc_varint(size: int) -> bytes:
    found = bytearray()
    while size > 127:
        found.append(~(size % 128) & 0xFF)
        size //= 128
    return bytes(found) + bytes([size])


def test_it_stops_at_the_first_record_that_is_enough(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    try:
        ends = [journal.append(pack_commit(Commit({"t": {b"%d" % i: IMAGE}}))).end for i in range(20)]
        for place, end in enumerate(ends):
            for enough in (end, end - 1):
                found, newest, position = gathered(journal, enough=enough)
                assert (newest.commits, position, len(found["t"])) == (place + 1, end, place + 1)
    finally:
        journal.close()


@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_record_that_is_no_commit_is_refused(tmp_path: Path, before: int) -> None:
    whole = pack_commit(Commit({"t": {b"k": IMAGE, b"l": None}}, (), {"pid": 1}, 0))
    for cut in range(8, len(whole)):
        folder = tmp_path / str(cut)
        folder.mkdir()
        journal = Journal(folder)
        try:
            for _ in range(before):
                journal.append(whole)
            journal.append(whole[:cut])
            with pytest.raises(CorruptionError, match="holds no commit"):
                gathered(journal)
        finally:
            journal.close()


def test_damage_in_the_midst_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    try:
        records = [journal.append(pack_commit(Commit({"t": {b"%d" % i: IMAGE}}))) for i in range(5)]
        segment = journal.reader.segment
        at = segment.offset(records[3].position) + 60
        with open(journal.segment_path(), "r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(CorruptionError, match="does not verify"):
            gathered(journal)
    finally:
        journal.close()


def test_images_are_put_into_a_table_and_taken_out(tmp_path: Path) -> None:
    images = {b"%03d" % i: Row(i, IMAGE) if i % 3 else None for i in range(50)}
    made = images_of(images)
    assert dict(made.items()) == images
    with tc.Table(tmp_path / "rows.tct", "n") as table:
        table.put_raw(stored_key(b"003"), b"\x01a\x01b")
        made.apply(table, 0, 20)
        made.apply(table, 20, 1000)
        made.apply(table, 1000, 5)  # there are none
        assert {key: table.get_raw(key) for key in table} == {
            stored_key(key): pack_row(stored_key(key), row) for key, row in images.items() if row is not None
        }
    assert len(images_of({})) == 0
