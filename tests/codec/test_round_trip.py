"""What is decoded is what was encoded: type, sign, exponent, zone and order included."""

import collections
import datetime as dt
import enum
import math
import zoneinfo
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykesto.codec import Reference, decode, decode_key, decode_row, encode, encode_key, encode_row, register_container
from pykesto.errors import CodecError
from tests.codec.codec_values import EDGES, SCALE, anything, numbers, odd, scalars, shape


@given(anything)
@settings(max_examples=int(1500 / SCALE))
def test_any_value_comes_back(value):
    assert shape(decode(encode(value))) == shape(value)


@given(scalars)
@settings(max_examples=int(1500 / SCALE))
def test_scalars_come_back(value):
    assert shape(decode(encode(value))) == shape(value)
    assert shape(decode(encode([value]))) == shape([value])


@given(numbers | odd)
@settings(max_examples=int(1500 / SCALE))
def test_numbers_come_back(value):
    for x in (value, (value, value), [value]):
        assert shape(decode(encode(x))) == shape(x)


def test_the_edges_of_every_length_come_back():
    for n in [*EDGES, *(s * (2**b + d) for b in (131072, 131071, 131079, 200001) for d in (-1, 0, 1) for s in (1, -1))]:
        assert decode(encode(n)) == n
        assert decode(encode([n])) == [n]
        assert decode(encode((n, "after"))) == (n, "after")


@given(scalars)
@settings(max_examples=int(800 / SCALE))
def test_a_decoded_key_is_equal_to_the_key(value):
    key = encode_key(value)
    back = decode_key(key)
    assert encode_key(back) == key


def test_keys_are_decoded_as_the_plainest_number():
    assert [
        shape(decode_key(encode_key(x))) for x in (1.0, True, Decimal("2.00"), Decimal("0.5"), Decimal("0.10"))
    ] == [shape(x) for x in (1, 1, 2, 0.5, Decimal("0.1"))]


@given(st.dictionaries(st.text(min_size=1), anything, max_size=6))
@settings(max_examples=int(300 / SCALE))
def test_rows_come_back(row):
    assert shape(decode_row(encode_row(row))) == shape(row)


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime.max,
        dt.datetime.min,
        dt.date.max,
        dt.date.min,
        dt.timedelta.max,
        dt.timedelta.min,
        dt.time.max,
        dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-23, minutes=-59))),
        dt.datetime.min.replace(
            tzinfo=dt.timezone(dt.timedelta(hours=23, minutes=59, seconds=59, microseconds=999999))
        ),
        dt.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
        dt.time(0, 0, tzinfo=dt.timezone(dt.timedelta(hours=14))),
        dt.time(12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    ],
)
def test_the_ends_of_the_calendar_come_back(value):
    for x in (value, (value,), [value]):
        assert shape(decode(encode(x))) == shape(x)
    assert encode_key(decode_key(encode_key(value))) == encode_key(value)


@pytest.mark.parametrize(
    "value",
    [
        Fraction(1, 2**1074),
        Fraction(1, 2**1075),
        Fraction(-3, 2**1075),
        Fraction(2**53 + 1, 2**1100),
        Fraction(1, 2**5000),
        Fraction(-(2**70) - 1, 2**80),
        Fraction(2**55 + 1, 2**63),
        Fraction(2**55 + 1, 2**58),
        Fraction(1, 3**1000),
        Fraction(10**50 + 1, 10**25),
        Fraction(-(10**50) - 1, 3),
        Fraction(7),
        Fraction(2**32000, 3),
        Decimal("1E-10000"),
        Decimal("-9.99E+9000"),
        Decimal("0E-10000"),
        Decimal("-0E+10000"),
        Decimal.from_float(5e-324),
        Decimal("123456789.123456789E-20"),
        Decimal(2) ** -90,
        Decimal("1.000"),
        Decimal("1E+3"),
        Decimal("0.02"),
        Decimal("-0.02"),
        Decimal("-19.90"),
    ],
    ids=lambda x: f"{type(x).__name__} {x.numerator.bit_length()}" if isinstance(x, Fraction) else str(x)[:20],
)
def test_rare_numbers_come_back(value):
    for x in (value, -value, (value, -value), [value]):
        assert shape(decode(encode(x))) == shape(x)
    assert decode_key(encode_key(value)) == value
    assert type(decode_key(encode_key(value))) is not Decimal or isinstance(value, (Decimal, Fraction))


def test_the_callers_decimal_context_changes_nothing():
    value = Decimal("3.14159265358979323846264338327950288419716939937510")
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 2, 2, -2
        context.traps = dict.fromkeys(context.traps, True)
        assert shape(decode(encode(value))) == shape(decode(encode([value]))[0]) == shape(value)


class Colour(enum.IntEnum):
    RED = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Point(1, 2),
        collections.OrderedDict(a=1),
        object(),
        len,
        int,
        "\ud800",
        [["\ud800"]],
        {"a": "\udfff"},
        Decimal("1E+20000"),
        Decimal("1E-20000"),
        dt.datetime(2020, 1, 1, tzinfo=type("Z", (dt.tzinfo,), {"utcoffset": lambda *a: None})()),
    ],
)
def test_what_would_come_back_as_something_else_is_refused(value):
    with pytest.raises(CodecError):
        encode(value)


def test_errors_say_where():
    with pytest.raises(CodecError) as caught:
        encode_row({"name": "Ann", "friends": [1, 2, 3, {"x": (1, object())}]})
    assert caught.value.path == "['friends'][3]['x'][1]"
    with pytest.raises(CodecError) as caught:
        encode((1, (2, "\ud800")))
    assert caught.value.path == "[1][1]"


def test_a_container_within_itself_is_refused():
    loop: list = []
    loop.append(loop)
    knot: dict = {}
    knot["a"] = [knot]
    for value in (loop, knot, ([loop],)):
        with pytest.raises(CodecError, match="deep"):
            encode(value)


def test_depth_is_bounded_the_same_way_in_and_out():
    def nested(depth, wrap):
        value = wrap()
        for _ in range(depth - 1):
            value = wrap([value])
        return value

    for wrap in (list, tuple):
        assert decode(encode(nested(200, wrap))) == nested(200, wrap)
        with pytest.raises(CodecError, match="deep"):
            encode(nested(201, wrap))
    with pytest.raises(CodecError, match="deep"):
        encode(nested(100_000, tuple))


class TrackedList(list):
    def __iter__(self):
        raise AssertionError("containers are read raw")


class TrackedDict(dict):
    __iter__ = __len__ = __getitem__ = items = keys = values = None  # type: ignore[assignment]


class TrackedSet(set):
    __iter__ = __len__ = None  # type: ignore[assignment]


def test_registered_containers_are_stored_as_plain_ones():
    for cls, plain in ((TrackedList, list), (TrackedDict, dict), (TrackedSet, set)):
        register_container(cls, plain)
    value = TrackedDict(a=TrackedList([1, TrackedSet({2})]), b=(TrackedList([3]),))
    assert shape(decode(encode(value))) == shape({"a": [1, {2}], "b": ([3],)})
    for cls, plain in ((TrackedList, dict), (int, int), (str, list)):
        with pytest.raises(TypeError):
            register_container(cls, plain)


class Person:
    def __init__(self, number):
        self.id = bytes([number % 3]) * 16


def test_references_are_asked_for_at_any_depth():
    people = {bytes([n]) * 16: Person(n) for n in range(3)}
    ann, bob, eve = people.values()
    for value in (ann, (ann, 1.0, (bob,)), [ann, {"x": (eve, [bob])}], {1: ann}, {ann, bob}, (ann, None, "a")):
        data = encode(value, reference=lambda x: x.id if isinstance(x, Person) else None)
        assert decode(data, reference=people.__getitem__) == value
        bare = decode(data)
        assert encode(bare) == data or isinstance(value, set)
    assert decode(encode(ann, reference=lambda x: x.id)) == Reference(ann.id)


def test_a_type_that_reference_does_not_know_is_refused():
    with pytest.raises(CodecError):
        encode([object()], reference=lambda x: None)
    with pytest.raises(TypeError):
        encode([object()], reference=lambda x: b"short")
    with pytest.raises(CodecError):
        Reference(b"short")


def test_a_container_that_changes_while_it_is_encoded_is_refused():
    row = {1: Person(1), 2: 3}
    items = [Person(1), 2]

    def grow(x):
        row[len(row) + 1] = 1
        items.append(1)
        return x.id

    for value in (row, items):
        with pytest.raises(CodecError, match="changed"):
            encode(value, reference=grow)


def test_bytes_like_objects_are_decoded():
    assert decode(bytearray(encode([1]))) == decode(memoryview(encode([1]))) == [1]


def test_small_values_are_small():
    sizes = {0: 1, 100: 1, -16: 1, 1000: 3, 2**31: 5, 2**62: 9, 0.5: 2, 3.14: 5, 0.1: 5, "": 1, "abc": 4, True: 2}
    assert {x: len(encode(x)) for x in sizes} == sizes
    assert len(encode(Decimal("19.99"))) == 2
    assert len(encode(math.pi * 1e-8)) <= 10
