"""A journal goes on from segment to segment, whoever dies in between."""

import os
from pathlib import Path

import pytest

from pykesto.errors import CorruptionError
from pykesto.journal import Reader, SegmentGone, Segments
from pykesto.journal.format import SegmentHeader
from pykesto.journal.segments import FIRST_CAPACITY, LARGEST_CAPACITY
from tests.journal.journals import Journal

BIG = FIRST_CAPACITY // 3


def many(count: int, size: int = BIG) -> list[bytes]:
    return [bytes([n]) * size for n in range(count)]


def test_records_go_on_in_new_segments_and_are_read_across_them(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for payload in many(20):
        journal.append(payload)
    assert len(journal.segments.numbers()) > 2
    assert journal.payloads() == many(20)
    journal.close()


def test_records_in_many_segments_are_recovered_after_a_clean_and_an_unclean_end(tmp_path: Path) -> None:
    for clean in (True, False):
        folder = tmp_path / str(clean)
        folder.mkdir()
        journal = Journal(folder)
        for payload in many(20):
            journal.append(payload)
        journal.close(clean=clean)
        journal = Journal(folder)
        assert journal.payloads() == many(20)
        journal.append(b"more")
        assert journal.payloads() == [*many(20), b"more"]
        journal.close()


@pytest.mark.parametrize("size", [FIRST_CAPACITY - 40, FIRST_CAPACITY, FIRST_CAPACITY + 1, LARGEST_CAPACITY + 1])
def test_a_record_larger_than_a_segment_gets_one_that_holds_it(tmp_path: Path, size: int) -> None:
    journal = Journal(tmp_path)
    payloads = [b"small", b"x" * size, b"small again"]
    for payload in payloads:
        journal.append(payload)
    assert journal.payloads() == payloads
    journal.close()
    journal = Journal(tmp_path)
    assert journal.payloads() == payloads
    journal.close()


def test_a_roll_makes_what_came_before_durable(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    before = 0
    for payload in many(4):
        number, end = journal.reader.segment.number, journal.state.end
        journal.append(payload)
        if journal.reader.segment.number != number:
            before = end
            assert journal.state.durable_end >= end
    assert before > 0
    journal.close()


def test_a_record_before_the_last_segment_that_does_not_verify_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for payload in many(8):
        journal.append(payload)
    path = journal.segments.path(1)
    journal.close()
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptionError) as caught:
        Journal(tmp_path)
    assert caught.value.path == str(path)


def unpublished(journal: Journal) -> int:
    """What a writer leaves that dies between making a segment and publishing it."""
    journal.sync.sync_alone(journal.state.end)
    number, reader = journal.state.segment + 1, journal.reader
    journal.state.roll_begins()
    journal.segments.create(
        SegmentHeader(number, journal.state.generation, 7, reader.position, FIRST_CAPACITY, reader.crc)
    )
    return number


def test_the_next_writer_adopts_a_segment_whose_maker_died_before_publishing_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"one")
    number = unpublished(journal)
    other = Journal(tmp_path, first=False)
    other.append(b"two")
    assert other.state.segment == number
    assert not other.state.rolling
    assert other.payloads() == journal.payloads() == [b"one", b"two"]
    other.close()
    journal.close()
    journal = Journal(tmp_path)
    assert journal.payloads() == [b"one", b"two"]
    journal.close()


def test_a_roll_that_died_before_its_segment_was_there_is_begun_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"one")
    journal.state.roll_begins()
    journal.append(b"two")
    assert not journal.state.rolling
    for payload in many(6):
        journal.append(payload)
    assert journal.payloads() == [b"one", b"two", *many(6)]
    journal.close()


def test_a_published_segment_without_records_is_gone_on_in(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    other = Journal(tmp_path, first=False)
    journal.append(b"one")
    list(other.reader.read_to(other.state))
    number = unpublished(journal)
    journal.state.publish_segment(number)  # and dies before its record
    journal.state.roll_ends()
    other.append(b"two", durable=True)
    other.close()
    journal.close()
    journal = Journal(tmp_path)
    assert journal.payloads() == [b"one", b"two"]
    journal.close()


def test_several_segments_without_records_are_gone_past(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"one")
    other = Journal(tmp_path, first=False)
    for _ in range(3):
        journal.state.publish_segment(unpublished(journal))
        journal.state.roll_ends()
        journal.reader.enter(journal.state.segment)
    journal.append(b"two")
    assert other.payloads() == journal.payloads() == [b"one", b"two"]
    other.append(b"three")
    assert journal.payloads() == [b"one", b"two", b"three"]
    other.close()
    journal.close()


def test_a_half_made_segment_is_no_segment(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"one")
    journal.close()
    (tmp_path / "journal" / "000000000002.new").write_bytes(b"half of one")
    journal = Journal(tmp_path)
    assert journal.payloads() == [b"one"]
    for payload in many(6):
        journal.append(payload)
    journal.close()


def test_a_record_that_was_written_and_not_published_is_overwritten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(b"one")
    end = journal.state.end
    other = Journal(tmp_path, first=False)
    list(other.reader.read_to(other.state))
    journal.append(b"never published")
    journal.state.publish(end)
    other.append(b"two")
    assert other.payloads() == [b"one", b"two"]
    other.close()
    journal.close()


def test_removing_what_nobody_needs_takes_whole_segments_from_the_front(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    records = [journal.append(payload) for payload in many(20)]
    middle = records[10]
    before = journal.segments.numbers()
    journal.segments.remove_before(middle.end)
    kept = journal.segments.numbers()
    assert kept == before[-len(kept) :] != before
    reader = Reader.at(
        journal.segments,
        position=middle.end,
        crc=middle.crc,
        number=middle.number,
        newest=journal.state.segment,
    )
    assert [record.payload for record in reader.read_to(journal.state)] == many(20)[11:]
    fresh = Segments(journal.segments.directory)
    with pytest.raises(SegmentGone):
        Reader.at(fresh, position=0, crc=0, number=0, newest=journal.state.segment)
    fresh.close()
    journal.close()


def test_the_newest_segment_is_never_removed(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for payload in many(20):
        journal.append(payload)
    journal.segments.remove_before(journal.state.end + 1000)
    assert journal.segments.numbers() == [journal.state.segment]
    journal.append(b"more")
    journal.close()


def test_a_reader_goes_on_in_a_segment_that_was_removed_while_it_had_it_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for payload in many(20):
        journal.append(payload)
    records = journal.reader_from_start().read_to(journal.state)
    assert next(records).payload == many(1)[0]
    journal.segments.remove_before(journal.state.end)
    assert next(records).payload == many(2)[1]
    journal.close()


def test_a_reader_stops_at_until(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    records = [journal.append(payload) for payload in many(9)]
    for n, record in enumerate(records):
        found = list(journal.reader_from_start().read_to(journal.state, until=record.end))
        assert [r.number for r in found] == [r.number for r in records[: n + 1]]
    journal.close()


def test_a_roll_takes_the_file_that_was_prepared(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.segments.prepare(3 * FIRST_CAPACITY)
    journal.segments.prepare(FIRST_CAPACITY)  # there is one already
    for payload in many(4):
        journal.append(payload)
    assert journal.reader.segment.header.capacity == 3 * FIRST_CAPACITY
    assert {path.suffix for path in journal.segments.directory.iterdir()} == {".kj"}
    assert journal.payloads() == many(4)
    journal.close()


def test_a_file_that_is_too_small_or_unfinished_is_not_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (journal.segments.directory / "spare.part").write_bytes(b"of a process that was killed")
    journal.segments.prepare(4096)
    journal.append(bytes(FIRST_CAPACITY * 2))
    assert journal.reader.segment.header.capacity >= FIRST_CAPACITY * 2
    assert {path.suffix for path in journal.segments.directory.iterdir()} == {".kj"}
    journal.close()


@pytest.mark.parametrize("size", [10_000, 3 << 20], ids=["less than is read at once", "more"])
def test_a_segment_that_lost_its_end_is_damage_and_no_endless_wait_for_the_rest(tmp_path: Path, size: int) -> None:
    journal = Journal(tmp_path)
    record = journal.append(b"x" * size)
    segment = journal.segments.get(journal.state.segment)
    os.truncate(segment.path, segment.offset(record.position) + size // 2)
    with pytest.raises(CorruptionError, match="the file ends inside a record"):
        journal.payloads()
    journal.close(clean=False)
