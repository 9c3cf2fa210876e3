"""Values that earlier versions wrote are read for ever: each file here is one format, and is only added to.

A line of a file is the bytes in hex, a blank, and what they are, in Python. A line for a row begins with `row`.
`python -m tests.formats.test_codec` prints the lines of VALUES as they are written today.
"""

import datetime as dt
import math
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from pykesto.codec import Reference, Unknown, decode, decode_key, decode_row, encode, encode_key, encode_row
from tests.codec.codec_values import shape

NAMES = {
    "dt": dt,
    "inf": math.inf,
    "nan": math.nan,
    **{c.__name__: c for c in (Decimal, Fraction, UUID, ZoneInfo, Reference, Unknown)},
}
FILES = sorted(Path(__file__).parent.glob("codec_*.txt"))

VALUES = """
None
True
0
-16
-17
127
128
-128
65535
10**12
-(2**62)
2**63
-(2**63)
-(2**63) - 1
2**200 + 1
-(3**400)
7**40000
-0.0
1.0
0.1
-2.5
1234.5678
1e300
-1e-300
5e-324
1/64
inf
-inf
nan
Decimal("0")
Decimal("-0.00")
Decimal("19.99")
Decimal("19.90")
Decimal("-0.01")
Decimal("3.14159")
Decimal("0.000001")
Decimal("-123456789.123456789")
Decimal("1.2345678901234567890123456789E-5")
Decimal("1E+30")
Decimal("0.5")
Decimal("0.12500")
Decimal("NaN")
Decimal("-sNaN12")
Decimal("-Infinity")
Fraction(1, 3)
Fraction(-22, 7)
Fraction(4)
Fraction(1, 2)
Fraction(10**30 + 1, 10**12)
""
"Ann"
"Zoë \\U0001f600"
"a\\0b\\x01\\x02"
"x" * 127
"x" * 300
b""
b"\\0\\x01\\x02\\x03\\xff"
b"x" * 200
dt.date(1, 1, 1)
dt.date(2024, 2, 29)
dt.datetime(9999, 12, 31, 23, 59, 59, 999999)
dt.datetime(2024, 2, 29, 12, 30, fold=1)
dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC)
dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=-30)))
dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.timezone(dt.timedelta(seconds=1, microseconds=5), "odd"))
dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
dt.time(12, 30, 15, 7)
dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=14)))
dt.time(1, 2, tzinfo=ZoneInfo("Europe/Berlin"))
dt.timedelta(days=-400, microseconds=1)
dt.timedelta.max
UUID("00010203-0405-0607-0809-0a0b0c0d0e0f")
Reference(b"0123456789abcdef")
()
(1, 1.0, True, Decimal("1.00"), "a\\0", b"b", None, (2, ("x",)))
("a", dt.datetime(2024, 2, 29, tzinfo=dt.UTC), Fraction(1, 3), 2.5)
Unknown("app.Colour", "red")
Unknown("app.Level", 1, True)
Unknown("app.Word", "yes", True)
(1.0, Unknown("app.Pair", (1, Unknown("app.Level", 2, True)), True), Unknown("app.Money", (Decimal("1.50"), "EUR")))
[]
[None, True, False, 0, -8, 47, -9, 48, 255, -32769, 2**24, 2**63 - 1, -(2**63), 2**64, -(2**100)]
[0.5, 0.1, inf, nan, -0.0, "", "a" * 128, b"b", UUID(int=5), Decimal("1.50"), Decimal("-1E+5"), Decimal("-0.0")]
[Decimal("123456789012345678901234567890.123"), Decimal("NaN"), Fraction(1, 3), Reference(b"0123456789abcdef")]
[dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 1, 2, 3, 4), dt.time(1), dt.timedelta(1)]
[[[]], (), (1, [2]), {}, set(), frozenset(), bytearray(b"a"), 1j, range(1, 10, 2)]
[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
(1, [2], (3, {4}))
{}
{"a": 1, "b": {"a": 2, "b": [{"a": 3, "b": 4}, {"b": 5, "a": 6}]}, "ä" * 70: None}
dict.fromkeys("abcdefghijklmnopqr", 1)
{1: 2, "a": [], (1, "b"): {None: True}, 2.5: {"x": 1}}
{1, "a", (2,), None}
frozenset({frozenset({1})})
bytearray(b"\\0\\x01")
complex(-0.0, inf)
range(10, 0, -1)
Unknown("app.Point", {"x": 1, "y": [Unknown("app.Point", {"x": 2, "y": None})]})
"""
ROWS = """
{"name": "Ann", "age": 40}
{"a": None, "b" * 130: "x" * 3000, "c": {"d": [{"e": 1}, {"e": 2}]}, "ä": Unknown("app.Colour", 1)}
"""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_was_written_then_is_read_today(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 100, path
    for line in lines:
        form, written, source = line.split(" ", 2)
        read = {"value": decode, "row": decode_row, "key": decode_key}[form]
        assert shape(read(bytes.fromhex(written))) == shape(eval(source, dict(NAMES))), source


def test_the_files_are_there():
    assert [path.name for path in FILES] == ["codec_1.txt"]


def main():
    for source in VALUES.strip().splitlines():
        value = eval(source, dict(NAMES))
        print("value", encode(value).hex(), source)
    for source in ROWS.strip().splitlines():
        print("row", encode_row(eval(source, dict(NAMES))).hex(), source)
    for value in (0, 1, -5, 128, 2**70, 0.5, Decimal("0.1"), "a\0", b"a", (1, "a", (None, 2.5)), dt.date(2024, 2, 29)):
        print("key", encode_key(value).hex(), repr(value).replace("datetime.", "dt."))


if __name__ == "__main__":
    main()
