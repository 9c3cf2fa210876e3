"""The bytes of headers, marks and records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykesto.journal.format import (
    HEADER_SIZE,
    Mark,
    SegmentHeader,
    generation_of,
    mark_offset,
    pack_header,
    pack_mark,
    parse_header,
    parse_mark,
)
from pykesto.journal.records import ALIGNMENT, RECORD_HEADER_SIZE, pack_record, parse_record, record_size
from pykesto.journal.state import next_number

U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 62) - 1)


@given(U64, U64, U32, U64, U64, U32)
def test_a_header_is_read_as_it_was_written(
    number: int, generation: int, salt: int, start: int, capacity: int, previous: int
) -> None:
    header = SegmentHeader(number, generation, salt, start, capacity, previous)
    assert parse_header(pack_header(header).ljust(HEADER_SIZE, b"\0")) == header


def test_a_header_with_any_flipped_bit_is_none_or_of_another_format() -> None:
    packed = pack_header(SegmentHeader(7, 3, 12345, 4096, 1 << 17, 99))
    for bit in range(len(packed) * 8):
        damaged = bytearray(packed.ljust(HEADER_SIZE, b"\0"))
        damaged[bit // 8] ^= 1 << bit % 8
        assert not isinstance(parse_header(bytes(damaged)), SegmentHeader), bit


@given(payload=st.binary(max_size=200), number=U64, position=st.integers(0, 1 << 40), salt=U32, previous=U32)
def test_a_record_is_read_as_it_was_written(
    payload: bytes, number: int, position: int, salt: int, previous: int
) -> None:
    block, crc = pack_record(
        payload, number=number, position=position, durable_end=position, salt=salt, previous_crc=previous
    )
    assert len(block) == record_size(len(payload)) and len(block) % ALIGNMENT == 0
    parsed = parse_record(b"before" + block, 6, position=position, room=len(block), salt=salt)
    assert parsed is not None
    record, chained = parsed
    assert (record.payload, record.number, record.position, record.crc) == (payload, number, position, crc)
    assert (record.end, record.durable_end, chained) == (position + len(block), position, previous)


def test_a_record_with_any_flipped_bit_does_not_verify() -> None:
    block, _ = pack_record(b"sixteen bytes ok", number=5, position=64, durable_end=8, salt=77, previous_crc=1)
    assert len(block) == RECORD_HEADER_SIZE + 16  # no padding, which nothing covers
    for bit in range(len(block) * 8):
        damaged = bytearray(block)
        damaged[bit // 8] ^= 1 << bit % 8
        assert parse_record(bytes(damaged), 0, position=64, room=1 << 20, salt=77) is None, bit


@pytest.mark.parametrize("other", [{"position": 72}, {"salt": 78}, {"room": 48}])
def test_a_record_verifies_only_in_its_place_and_file(other: dict[str, int]) -> None:
    block, _ = pack_record(b"sixteen bytes ok", number=5, position=64, durable_end=8, salt=77, previous_crc=1)
    assert parse_record(block, 0, **({"position": 64, "salt": 77, "room": 56} | other)) is None
    assert parse_record(block, 0, position=64, salt=77, room=56) is not None


def test_a_record_that_claims_to_be_durable_beyond_itself_does_not_verify() -> None:
    block, _ = pack_record(b"", number=1, position=64, durable_end=72, salt=7, previous_crc=0)
    assert parse_record(block, 0, position=64, room=1000, salt=7) is None


def test_zeros_are_no_record() -> None:
    assert parse_record(bytes(4096), 0, position=0, room=4096, salt=0) is None


@given(sequence=U64, durable_end=U64, clean=st.booleans(), salt=U32)
def test_a_mark_is_read_as_it_was_written(sequence: int, durable_end: int, clean: bool, salt: int) -> None:
    block = bytearray(HEADER_SIZE)
    packed = pack_mark(mark := Mark(sequence, durable_end, clean), salt)
    block[mark_offset(sequence) : mark_offset(sequence) + len(packed)] = packed
    assert parse_mark(bytes(block), salt) == mark
    assert parse_mark(bytes(block), salt ^ 1) is None


def test_a_torn_mark_leaves_the_one_before() -> None:
    block = bytearray(HEADER_SIZE)
    for mark in (Mark(1, 100, clean=True), Mark(2, 200, clean=False)):
        packed = pack_mark(mark, 5)
        block[mark_offset(mark.sequence) : mark_offset(mark.sequence) + len(packed)] = packed
    assert parse_mark(bytes(block), 5) == Mark(2, 200, clean=False)
    block[mark_offset(2) + 9] ^= 1
    assert parse_mark(bytes(block), 5) == Mark(1, 100, clean=True)


@given(last=U64, more=st.integers(0, 100))
def test_numbers_rise_within_and_over_generations(last: int, more: int) -> None:
    generation = generation_of(last) + more
    number = next_number(last, generation)
    if (last + 1) % (1 << 40):  # a generation has room for a trillion commits
        assert number > last
        assert generation_of(number) == generation
