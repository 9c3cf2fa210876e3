"""Where a journal ends after any end: a torn tail goes, what was durable stays, and damage is told from both."""

from pathlib import Path

import pytest

from pykesto.errors import CorruptionError
from pykesto.journal import Segments
from pykesto.journal.format import HEADER_SIZE, generation_of
from pykesto.journal.records import record_size
from tests.journal.journals import Journal


def written(folder: Path, payloads: list[bytes], *, durable: int = 0, clean: bool = False) -> Path:
    """A journal of these records, the first `durable` of them synced; the path of its segment."""
    journal = Journal(folder)
    for n, payload in enumerate(payloads):
        journal.append(payload, durable=n < durable)
    path = journal.segment_path()
    journal.close(clean=clean)
    return path


def found(folder: Path) -> list[bytes]:
    journal = Journal(folder)
    try:
        return journal.payloads()
    finally:
        journal.close()


PAYLOADS = [b"one", b"two, longer", b"the third and last, of some more bytes"]
LAST = HEADER_SIZE + sum(record_size(len(payload)) for payload in PAYLOADS[:2])
SIZE = record_size(len(PAYLOADS[2]))


def test_records_are_found_again_after_a_clean_and_an_unclean_end(tmp_path: Path) -> None:
    for clean in (True, False):
        folder = tmp_path / str(clean)
        folder.mkdir()
        written(folder, PAYLOADS, clean=clean)
        assert found(folder) == PAYLOADS
        assert found(folder) == PAYLOADS


def test_a_tail_torn_at_any_byte_recovers_to_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = path.read_bytes()
    used = SIZE - (-40 - len(PAYLOADS[2])) % 8
    for size in range(used):
        for rest in (b"\0", b"\xff"):
            torn = content[: LAST + size] + rest * (SIZE - size) + content[LAST + SIZE :]
            if torn[LAST : LAST + used] == content[LAST : LAST + used]:
                continue  # what was torn off was like what is there now
            path.write_bytes(torn)
            for later in sorted(path.parent.iterdir())[1:]:
                later.unlink()
            journal = Journal(tmp_path)
            assert journal.payloads() == PAYLOADS[:2]
            assert journal.recovered is not None
            assert not journal.recovered.clean
            journal.close()


def test_a_file_cut_at_any_byte_of_the_last_record_recovers_to_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = path.read_bytes()
    for size in range(SIZE - 8):
        path.write_bytes(content[: LAST + size])
        for later in sorted(path.parent.iterdir())[1:]:
            later.unlink()
        assert found(tmp_path) == PAYLOADS[:2]


def test_any_flipped_byte_of_the_last_record_takes_it_and_no_other(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = path.read_bytes()
    for at in range(40 + len(PAYLOADS[2])):
        damaged = bytearray(content)
        damaged[LAST + at] ^= 0x41
        path.write_bytes(damaged)
        for later in sorted(path.parent.iterdir())[1:]:
            later.unlink()
        assert found(tmp_path) == PAYLOADS[:2]


def test_the_bytes_of_a_torn_tail_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = bytearray(path.read_bytes())
    content[LAST + 50] ^= 1
    path.write_bytes(content)
    journal = Journal(tmp_path)
    assert journal.recovered is not None
    assert journal.recovered.records == 2
    assert SIZE - 8 < journal.recovered.discarded <= SIZE
    journal.close()


def test_what_follows_a_torn_tail_survives_the_next_end(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = bytearray(path.read_bytes())
    content[LAST + 50] ^= 1
    path.write_bytes(content)
    for clean in (False, True, False):
        journal = Journal(tmp_path)
        journal.append(b"after", durable=True)
        journal.close(clean=clean)
    assert found(tmp_path) == [*PAYLOADS[:2], b"after", b"after", b"after"]


def test_a_dropped_record_never_comes_back(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = path.read_bytes()
    torn = bytearray(content)
    torn[LAST + 50] ^= 1
    path.write_bytes(torn)
    journal = Journal(tmp_path)
    journal.append(b"after")
    journal.close()
    path.write_bytes(content)  # the disk has it after all
    assert found(tmp_path) == [*PAYLOADS[:2], b"after"]


def test_a_later_record_that_claims_durability_beyond_a_bad_one_proves_damage(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS, durable=2)  # the third says that the first two were durable
    for at in HEADER_SIZE + 3, LAST - record_size(len(PAYLOADS[1])) + 45:
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(CorruptionError, match="durable") as caught:
            Journal(tmp_path)
        assert caught.value.path == str(path)
        assert caught.value.offset in (HEADER_SIZE, HEADER_SIZE + record_size(len(PAYLOADS[0])))
        content[at] ^= 1
        path.write_bytes(content)


def test_a_later_record_that_claims_nothing_proves_no_damage(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    content = bytearray(path.read_bytes())
    content[LAST - record_size(len(PAYLOADS[1])) + 45] ^= 1
    path.write_bytes(content)
    assert found(tmp_path) == PAYLOADS[:1]


def test_a_clean_mark_proves_damage_of_the_last_record(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS, clean=True)
    content = bytearray(path.read_bytes())
    content[LAST + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptionError, match="durable"):
        Journal(tmp_path)


def test_a_refused_recovery_leaves_every_byte_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS, clean=True)
    content = bytearray(path.read_bytes())
    content[LAST + 50] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptionError):
        Journal(tmp_path)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == {path: bytes(content)}


def test_an_unclean_end_begins_a_generation_in_a_segment_of_its_own(tmp_path: Path) -> None:
    numbers = []
    for _ in range(3):
        journal = Journal(tmp_path)
        numbers.append(journal.append(b"record").number)
        journal.close()
    assert [generation_of(number) for number in numbers] == [1, 2, 3]
    assert numbers == sorted(numbers)
    assert len(Segments(tmp_path / "journal").numbers()) == 3


def test_after_a_clean_end_the_same_segment_and_generation_go_on(tmp_path: Path) -> None:
    numbers = []
    for _ in range(3):
        journal = Journal(tmp_path)
        numbers.append(journal.append(b"record").number)
        journal.close(clean=True)
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
    assert len(Segments(tmp_path / "journal").numbers()) == 1


def test_the_clean_mark_is_taken_back_before_the_first_append(tmp_path: Path) -> None:
    written(tmp_path, PAYLOADS, clean=True)
    journal = Journal(tmp_path)
    assert journal.state.clean
    segment = journal.reader.segment
    end = journal.state.end
    journal.append(b"more")
    assert not journal.state.clean
    mark = segment.mark()
    assert mark is not None
    assert (mark.clean, mark.durable_end) == (False, end)
    journal.close()


def test_a_power_cut_that_takes_the_first_append_after_a_clean_end_gives_no_number_twice(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS, clean=True)
    before = path.read_bytes()
    journal = Journal(tmp_path)
    lost = journal.append(b"lost").number
    journal.close()
    after = path.read_bytes()
    path.write_bytes(after[:HEADER_SIZE] + before[HEADER_SIZE:])  # the header was synced, the record was not
    journal = Journal(tmp_path)
    assert journal.payloads() == PAYLOADS
    assert journal.append(b"next").number > lost
    journal.close()


def test_an_open_that_appends_nothing_leaves_the_end_clean(tmp_path: Path) -> None:
    written(tmp_path, PAYLOADS, clean=True)
    for _ in range(2):
        journal = Journal(tmp_path)
        assert journal.recovered is not None
        assert journal.recovered.clean
        journal.close()


def test_recovery_makes_what_it_accepts_durable_and_says_so(tmp_path: Path) -> None:
    written(tmp_path, PAYLOADS)
    journal = Journal(tmp_path)
    assert journal.state.durable_end == journal.state.end > 0
    journal.close()


def test_recovery_may_begin_at_a_later_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    records = [journal.append(payload) for payload in PAYLOADS]
    journal.close()
    segments = Segments(tmp_path / "journal")
    from pykesto.journal import recover

    first = records[0]
    recovered = recover(segments, position=first.end, crc=first.crc, number=first.number)
    assert recovered.records == 2
    assert recovered.reader.position == records[-1].end
    segments.close()


def test_a_position_beyond_the_journals_end_is_damage(tmp_path: Path) -> None:
    path = written(tmp_path, PAYLOADS)
    from pykesto.journal import recover

    segments = Segments(path.parent)
    with pytest.raises(CorruptionError):
        recover(segments, position=1 << 30, crc=1, number=1)
    segments.close()
