"""The bytes of the journal's segments: headers and close marks; `records` has those of the records.

Everything is little-endian. docs/journal.md is the specification; a test holds the two together.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ..files import crc32c

FORMAT = 1
HEADER_SIZE = 4096  # a page, so that writing a mark never touches a record's sector
MARK_OFFSETS = (1024, 2048)

_HEADER = struct.Struct("<8sIIQQQQI")  # magic, format, salt, segment, generation, start, capacity, previous crc
_MARK = struct.Struct("<8sQQI")  # magic, sequence, durable end, clean
_CRC = struct.Struct("<I")
_HEADER_MAGIC = b"KESTOJNL"
_MARK_MAGIC = b"KESTOMRK"

GENERATION_SHIFT = 40  # a number is (generation, count): 24 bits and 40


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself.

    `start` is the position in the journal of its first record: the true end of its predecessor. `previous_crc` is
    the checksum of the record that ends there (0: there is none).
    """

    number: int
    generation: int
    salt: int
    start: int
    capacity: int
    previous_crc: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A vow, synced: everything before `durable_end` is on disk; `clean`: and nothing was written after it."""

    sequence: int
    durable_end: int
    clean: bool


def generation_of(number: int) -> int:
    return number >> GENERATION_SHIFT


def pack_header(header: SegmentHeader) -> bytes:
    fields = _HEADER.pack(
        _HEADER_MAGIC,
        FORMAT,
        header.salt,
        header.number,
        header.generation,
        header.start,
        header.capacity,
        header.previous_crc,
    )
    return fields + _CRC.pack(crc32c(fields))


def parse_header(block: bytes) -> SegmentHeader | int | None:
    """The header, or the format number if it is another one's, or None if it is none."""
    if len(block) < HEADER_SIZE or not block.startswith(_HEADER_MAGIC):
        return None
    _magic, form, salt, number, generation, start, capacity, previous = _HEADER.unpack_from(block)
    if form != FORMAT:
        return int(form)
    if _CRC.unpack_from(block, _HEADER.size)[0] != crc32c(block[: _HEADER.size]):
        return None
    return SegmentHeader(number, generation, salt, start, capacity, previous)


def pack_mark(mark: Mark, salt: int) -> bytes:
    fields = _MARK.pack(_MARK_MAGIC, mark.sequence, mark.durable_end, mark.clean)
    return fields + _CRC.pack(crc32c(fields, salt))


def parse_mark(block: bytes, salt: int) -> Mark | None:
    """The newest valid mark of a segment's header block, or None."""
    marks = []
    for offset in MARK_OFFSETS:
        magic, sequence, durable_end, clean = _MARK.unpack_from(block, offset)
        valid = _CRC.unpack_from(block, offset + _MARK.size)[0] == crc32c(block[offset : offset + _MARK.size], salt)
        if magic == _MARK_MAGIC and valid:
            marks.append(Mark(sequence, durable_end, bool(clean)))
    return max(marks, key=lambda mark: mark.sequence, default=None)


def mark_offset(sequence: int) -> int:
    """Marks alternate, so that a torn one leaves its predecessor."""
    return MARK_OFFSETS[sequence % 2]
