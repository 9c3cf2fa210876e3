"""Ranges of bytes that hold exactly the equal values, a family, or what starts with a prefix."""

import datetime as dt
import math
import uuid
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykesto.codec import Reference, Unknown, encode, family, family_range, is_scalar_encoding, prefix_range, range_of
from pykesto.errors import CodecError
from tests.codec.codec_values import FAMILIES, SCALE, blobs, close_numbers, compare, numbers, odd, rank, scalars, texts


def holds(bounds, value):
    lo, hi = bounds
    return lo <= encode(value) < hi


@given(close_numbers() | st.tuples(numbers, numbers) | st.tuples(scalars, scalars))
@settings(max_examples=int(2500 / SCALE))
def test_a_range_holds_exactly_the_equal_values(pair):
    a, b = pair
    assert holds(range_of(a), a)
    assert holds(range_of(a), b) == (compare(a, b) == 0)
    assert holds(range_of((a, "x")), (b, "x")) == (compare(a, b) == 0)


def test_a_range_has_all_types_of_an_equal_number():
    for value in (1, 1.0, True, Decimal("1.00"), Fraction(1)):
        assert all(holds(range_of(value), same) for same in (1, 1.0, True, Decimal("1.0"), Decimal(1), Fraction(1)))
        assert not any(
            holds(range_of(value), other) for other in (0, 2, 1.01, Fraction(4, 3), "1", None, (1,), math.nan)
        )


def test_nothing_equals_nan():
    for nan in (math.nan, Decimal("NaN"), Decimal("sNaN")):
        assert not any(holds(range_of(nan), x) for x in (nan, Decimal("NaN"), math.nan, math.inf))


@pytest.mark.parametrize("value", [[1], {}, object(), (1, [2])])
def test_containers_have_no_range(value):
    for call in (range_of, family_range):
        with pytest.raises(CodecError):
            call(value)


@given(st.one_of(FAMILIES), st.one_of(FAMILIES) | odd.filter(lambda x: type(x) is not complex))
@settings(max_examples=int(800 / SCALE))
def test_a_family_holds_what_can_be_compared(a, b):
    nan = family(encode(b)) == "nan"
    assert holds(family_range(a), b) == (not nan and rank(a) == rank(b))
    if not nan and rank(a) == rank(b):
        assert family(encode(a)) == family(encode(b))


def test_families_have_names():
    named = {
        "none": None,
        "number": 1,
        "nan": math.nan,
        "str": "",
        "bytes": b"",
        "date": dt.date.min,
        "datetime": dt.datetime.min,
        "aware datetime": dt.datetime(2000, 1, 1, tzinfo=dt.UTC),
        "time": dt.time(),
        "aware time": dt.time(tzinfo=dt.UTC),
        "timedelta": dt.timedelta(),
        "uuid": uuid.UUID(int=0),
        "reference": Reference(bytes(16)),
        "tuple": (),
        "typed": Unknown("a type", 1),
        "list": [],
        "dict": {},
        "set": set(),
        "frozenset": frozenset(),
        "bytearray": bytearray(),
        "complex": 1j,
        "range": range(3),
        "plain typed": Unknown("a type", [1]),
        "plain tuple": ([],),
    }
    longer = {"list": list(range(20)), "dict": {1: 2}}
    assert [family(encode(value)) for value in longer.values()] == list(longer)
    assert family(encode({f"{n}": n for n in range(20)})) == "dict"
    assert {name: family(encode(value)) for name, value in named.items()} == {name: name for name in named}
    scalar = [name for name, value in named.items() if is_scalar_encoding(encode(value))]
    assert scalar == list(named)[:15]
    for bad in (b"", b"\0", b"\xdf"):
        assert not is_scalar_encoding(bad)
        with pytest.raises(CodecError):
            family(bad)


@given(texts, texts)
@settings(max_examples=int(500 / SCALE))
def test_a_prefix_range_holds_what_starts_with_it(prefix, text):
    assert holds(prefix_range(prefix), prefix + text)
    assert holds(prefix_range(prefix), text) == text.startswith(prefix)
    assert not holds(prefix_range(prefix), text.encode())


@given(blobs, blobs)
@settings(max_examples=int(500 / SCALE))
def test_a_prefix_range_of_bytes_holds_what_starts_with_it(prefix, blob):
    assert holds(prefix_range(prefix), prefix + blob)
    assert holds(prefix_range(prefix), blob) == blob.startswith(prefix)
    assert not holds(prefix_range(prefix), "a")


def test_a_prefix_is_text():
    with pytest.raises(CodecError):
        prefix_range(1)
