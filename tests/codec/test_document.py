"""docs/codec.md says what the code does: its examples, its tags, its order."""

import datetime as dt
import doctest
import enum
import math
import re
import struct
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings

import pykesto.codec
from pykesto.codec import Reference, Unknown, decode, encode, encode_key, encode_row
from tests.codec.codec_values import SCALE, anything, shape

DOCUMENT = (Path(__file__).parents[2] / "docs" / "codec.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `(.+)` \| `([0-9a-f]+)` \|$", DOCUMENT, re.M)
NAMES = {
    "dt": dt,
    "math": math,
    "utc": dt.UTC,
    **{c.__name__: c for c in (Decimal, Fraction, UUID, ZoneInfo, Reference, Unknown)},
}


def test_there_are_examples():
    assert len(EXAMPLES) > 50


@pytest.mark.parametrize(("source", "expected"), EXAMPLES)
def test_an_example_is_what_the_code_writes_and_reads(source, expected):
    value = eval(source, dict(NAMES))
    assert encode(value).hex() == expected
    assert shape(decode(bytes.fromhex(expected))) == shape(value)


def test_the_row_is_what_the_code_writes():
    image = re.search(r"^`([0-9a-f]+)`\.$", DOCUMENT, re.M)
    assert image
    assert encode_row({"name": "Ann", "age": 40}).hex() == image[1]


def test_the_order_across_types_is_as_written():
    sentence = re.search(r"None < numbers[^.]*", DOCUMENT, re.S)
    assert sentence
    stand_ins = {
        "None": None,
        "numbers": math.inf,
        "NaN": math.nan,
        "str": "",
        "bytes": b"",
        "date": dt.date.min,
        "naive datetime": dt.datetime.min,
        "aware datetime": dt.datetime.max.replace(tzinfo=dt.UTC),
        "time": dt.time.min,
        "aware time": dt.time(tzinfo=dt.UTC),
        "timedelta": dt.timedelta(),
        "UUID": UUID(int=0),
        "reference": Reference(bytes(16)),
        "tuple": (),
        "registered type": Unknown("", None),
    }
    names = [" ".join(name.split()) for name in sentence[0].split("<")]
    assert names == list(stand_ins)
    encoded = [encode(stand_ins[name]) for name in names]
    assert encoded == sorted(encoded)


def tags_of(section):
    """The tags of a section's table: from and to, and what they stand for."""
    text = DOCUMENT.partition(f"## {section}\n")[2].partition("\n## ")[0]
    for cell, meaning in re.findall(r"^\| ([0-9A-F][0-9A-F][^|]*) \| ([^|]+) \|", text, re.M):
        for part in cell.split(", "):
            low, _, high = part.partition("-")
            yield int(low, 16), int(high or low, 16), meaning


@pytest.mark.parametrize("section", ["Tags of the ordered form", "The plain form"])
def test_each_tag_is_written_down_once(section):
    meanings = {}
    for low, high, meaning in tags_of(section):
        for tag in range(low, high + 1):
            assert tag not in meanings, hex(tag)
            meanings[tag] = meaning
    written = set(meanings)
    for source, _ in EXAMPLES:
        value = eval(source, dict(NAMES))
        if section == "The plain form":
            assert encode([value])[1] in written
        elif encode(value)[0] < 0xCC:
            assert encode(value)[0] in written
    for tag in set(range(256)) - written:
        with pytest.raises(pykesto.errors.CodecError, match=f"no value begins with the byte {tag:#04x}"):
            decode(bytes([0xF1, tag] if section == "The plain form" else [0xF1, 0xCB, 40, tag]) + bytes(40))


class PlainReader:
    """A reader of the plain form, made from the document alone; the ordered form inside is left to the codec."""

    def __init__(self, block):
        self.block, self.names = block, []

    def take(self, size):
        piece, self.block = self.block[:size], self.block[size:]
        assert len(piece) == size
        return piece

    def length(self):
        byte = self.take(1)[0]
        return byte if byte < 0x80 else byte - 0x80 + 128 * self.length()

    def sized(self):
        return self.take(self.length())

    def integer(self, size):
        return int.from_bytes(self.take(size), "big", signed=True)

    def items(self, n):
        return [self.value() for _ in range(n)]

    def record(self, n, keep=True):
        names = [self.sized().decode() for _ in range(n)]
        if keep and n:
            self.names.append(names)
        return dict(zip(names, self.items(n), strict=True))

    def decimal(self):
        e = self.length()
        digits = int.from_bytes(self.sized(), "big", signed=True)
        return Decimal(f"{digits}E{e // 2 if e % 2 == 0 else -(e + 1) // 2}")

    def value(self):
        tag = self.take(1)[0]
        if tag < 0x80:
            return self.take(tag).decode()
        if tag < 0xB8:
            return tag - 0x88
        if 0xC0 <= tag <= 0xC7:
            return self.integer(tag - 0xBF)
        if tag >= 0xF0:
            return self.items(tag - 0xF0)
        if tag >= 0xE0:
            return self.record(tag - 0xE0)
        return {
            0xB8: lambda: None,
            0xB9: lambda: False,
            0xBA: lambda: True,
            0xBB: lambda: struct.unpack(">d", self.take(8))[0],
            0xBC: lambda: struct.unpack(">f", self.take(4))[0],
            0xBD: lambda: self.sized().decode(),
            0xBE: self.sized,
            0xBF: lambda: UUID(bytes=self.take(16)),
            0xC8: lambda: self.integer(self.length()),
            0xC9: self.decimal,
            0xCA: lambda: Reference(self.take(16)),
            0xCB: lambda: decode(self.sized()),
            0xCC: lambda: self.items(self.length()),
            0xCD: lambda: tuple(self.items(self.length())),
            0xCE: lambda: {self.value(): self.value() for _ in range(self.length())},
            0xCF: lambda: set(self.items(self.length())),
            0xD0: lambda: frozenset(self.items(self.length())),
            0xD1: lambda: bytearray(self.sized()),
            0xD2: lambda: complex(*struct.unpack(">dd", self.take(16))),
            0xD3: lambda: range(*self.items(3)),
            0xD4: lambda: Unknown(self.sized().decode(), self.value()),
            0xD5: lambda: Unknown(self.sized().decode(), self.value(), True),
            0xD6: lambda: self.record(self.length()),
            0xD7: lambda: {name: self.value() for name in self.names[self.take(1)[0]]},
        }[tag]()


@given(anything)
@settings(max_examples=int(1500 / SCALE))
def test_a_reader_made_from_the_document_reads_the_plain_form(value):
    reader = PlainReader(encode([value]))
    assert shape(reader.value()) == shape([value])
    assert not reader.block


def test_more_shapes_than_are_counted_are_read():
    rows = [{f"{n}": n, "x": {f"{n}": 1}} for n in range(100)] * 2
    assert decode(encode(rows)) == PlainReader(encode(rows)).value() == rows


@pytest.mark.parametrize("name", pykesto.codec.__all__)
def test_an_example_of_a_function_runs(name):
    subject = getattr(pykesto.codec, name)
    names = {**vars(pykesto.codec), "datetime": dt, "Decimal": Decimal, "enum": enum}
    for test in doctest.DocTestFinder(recurse=False).find(subject, name, globs=names):
        assert doctest.DocTestRunner().run(test).failed == 0


def number_by_the_document(key):
    """A reader of short positive numbers, made from the document alone."""
    tag, rest = key[0], key[1:]
    if tag == 0x2E:
        return 0
    if 0x30 <= tag <= 0xAF:
        n = tag - 0x30
    else:
        k = tag - 0xAF
        assert 1 <= k <= 8
        n = 128 + sum(255**i for i in range(1, k))
        n += sum((digit - 1) * 255 ** (k - 1 - i) for i, digit in enumerate(rest[:k]))
        rest = rest[k:]
    if not rest:
        return n
    value = n + Fraction((rest[0] - 0x10) >> 1, 100)
    scale = Fraction(1, 100)
    groups = rest[1:]
    if groups[:1] in (b"\x01", b"\xff"):
        groups = groups[:1] * (1 + abs(groups[1] - 0x18)) + groups[2:]
    for byte in groups:
        scale /= 128
        value += (byte >> 1) * scale
    return value


@pytest.mark.parametrize(
    "value", [0, 1, 127, 128, 382, 383, 65407, 65408, 10**15, 0.1, 0.5, 3.14, 437.19, 1234.5678, 2.0**40 + 0.25]
)
def test_a_reader_made_from_the_document_reads_numbers(value):
    assert number_by_the_document(encode_key(value)) == value
