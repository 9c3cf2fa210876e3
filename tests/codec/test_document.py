"""docs/codec.md says what the code does: its examples, its tags, its order."""

import datetime as dt
import math
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from pykesto.codec import Reference, decode, encode, encode_key, encode_row
from tests.codec.codec_values import shape

DOCUMENT = (Path(__file__).parents[2] / "docs" / "codec.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `(.+)` \| `([0-9a-f]+)` \|$", DOCUMENT, re.M)
NAMES = {
    "dt": dt,
    "math": math,
    "utc": dt.UTC,
    **{c.__name__: c for c in (Decimal, Fraction, UUID, ZoneInfo, Reference)},
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
    sentence = re.search(r"None < numbers.*?tuple", DOCUMENT, re.S)
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
    }
    names = [" ".join(name.split()) for name in sentence[0].split("<")]
    assert names == list(stand_ins)
    encoded = [encode(stand_ins[name]) for name in names]
    assert encoded == sorted(encoded)


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
    for byte in rest[1:]:
        scale /= 128
        value += (byte >> 1) * scale
    return value


@pytest.mark.parametrize(
    "value", [0, 1, 127, 128, 382, 383, 65407, 65408, 10**15, 0.1, 0.5, 3.14, 1234.5678, 2.0**40 + 0.25]
)
def test_a_reader_made_from_the_document_reads_numbers(value):
    assert number_by_the_document(encode_key(value)) == value
