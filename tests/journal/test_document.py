"""docs/journal.md is the specification: its example must be what the code writes and reads."""

from __future__ import annotations

import re
from pathlib import Path

from pykesto.engine.content import Commit, pack_commit, unpack_commit
from pykesto.journal.format import (
    HEADER_SIZE,
    Mark,
    SegmentHeader,
    pack_header,
    pack_mark,
    parse_header,
)
from pykesto.journal.records import pack_record, parse_record

SALT = 0x01020304
COMMIT = Commit({"t_x": {b"k": b"v", b"d": None}}, time_ms=1234567890123)


def example() -> list[bytes]:
    """The indented blocks of hexadecimal digits, in order."""
    text = (Path(__file__).parents[2] / "docs" / "journal.md").read_text()
    blocks = re.findall(r"(?:^    [0-9a-f ]+\n)+", text.partition("## An example")[2], re.M)
    return [bytes.fromhex(block) for block in blocks]


def test_the_documented_header_is_what_is_written_and_read() -> None:
    header = SegmentHeader(number=1, generation=1, salt=SALT, start=0, capacity=131072, previous_crc=0)
    assert pack_header(header) == example()[0]
    assert parse_header(example()[0].ljust(HEADER_SIZE, b"\0")) == header


def test_the_documented_record_is_what_is_written_and_read() -> None:
    block, _ = pack_record(
        pack_commit(COMMIT), number=1 << 40 | 1, position=0, durable_end=0, salt=SALT, previous_crc=0
    )
    assert block == example()[1]
    parsed = parse_record(block, 0, position=0, room=len(block), salt=SALT)
    assert parsed is not None
    assert unpack_commit(parsed[0].payload) == COMMIT


def test_the_documented_mark_is_what_is_written() -> None:
    assert pack_mark(Mark(1, len(example()[1]), clean=True), SALT) == example()[2]
