"""Bytes that are no value give CodecError: no other error, no crash, no memory asked for that isn't there."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykesto.codec import decode, decode_key, encode, encode_key, family, range_of
from pykesto.errors import CodecError
from tests.codec.codec_values import SCALE, anything, scalars, shape


def attempt(data):
    for call in (decode, decode_key, lambda d: decode(d, reference=lambda i: i)):
        try:
            value = call(data)
        except CodecError:
            continue
        if call is decode:
            again = decode(encode(value))
            assert shape(again) == shape(value)
            family(data)


@given(st.binary(max_size=40))
@settings(max_examples=int(2000 / SCALE))
def test_random_bytes(data):
    attempt(data)


@given(st.integers(0x10, 0xFF), st.lists(st.integers(1, 255), max_size=14).map(bytes))
@settings(max_examples=int(4000 / SCALE))
def test_random_bytes_behind_every_tag(tag, rest):
    attempt(bytes([tag]) + rest)
    attempt(bytes([0xF1, 0xCB, len(rest) + 1, tag]) + rest)
    attempt(bytes([0xF1, tag]) + rest)


@given(anything | scalars, st.data())
@settings(max_examples=int(2500 / SCALE))
def test_mutated_encodings(value, data):
    block = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(block)))
        kind = data.draw(st.integers(0, 3))
        if kind == 0:
            del block[at:]
        elif kind == 1:
            block[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
        elif kind == 2:
            del block[at : at + 1]
        else:
            block[at:at] = data.draw(st.binary(max_size=3))
    attempt(bytes(block))


@given(scalars)
@settings(max_examples=int(300 / SCALE))
def test_keys_with_more_behind_them_are_refused(value):
    key = encode_key(value)
    if key[0] in (0xC0, 0xC1):
        return
    with pytest.raises(CodecError):
        decode_key(key + b"\x01")
    assert range_of(value)[0] == key


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"\xcc\xff\xff\xff\xff\xff\xff\x7f",  # a list of 2**48 items
        b"\xcc\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xf3\x89",
        b"\xce\x01\x89",
        b"\xd1\xff\xff\xff\x7fabc",
        b"\xf1\xbd\x80\x80\x80\x80\x80\x80\x01a",
        b"\xce\x01\xf0\x89",  # a list as a key
        b"\xcf\x01\xf0",
        b"\xcf\x02\x89\x89",  # twice the same
        b"\xce\x02\x89\x89\x89\x89",
        b"\xe2\x01a\x01a\x89\x89",
        b"\xe2\x01a\x01b\x89",
        b"\xd6\xff\xff\xff\x7f\x01a\x89",  # a record of 2**28 names
        b"\xd7\x00\x89",  # of names that were never written
        b"\xf2\xe1\x01a\x89\xd7\x01\x89",
        b"\xf2\xe1\x01a\x89\xd7\x00",
        b"\xe1\x01\xff\x89",  # a name that is no UTF-8
        b"\xd3\x89\x89\x88",  # a range with no step
        b"\xd3\x89\x89\x01a",
        b"\xd4\xff\x7fa",
        b"\xcba\x01",
        b"\xc0a\x01\x0a\x11a\x01",  # a type of the second part, where there is one
        b"\xc0a\x01\x0a\x10a",
        b"\x10\x0a\x10a\x01",  # nothing is equal to None but None
        b"\xf1\xc9\x00\xba\x20" + b"\x01" * 4154,  # a Decimal of more than 10,000 digits
        b"\xb9\xfa\xfa\xfa",
        b"\xb8\xe9\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80",  # an exponent of 2**63
        b"\x2f\x10\xff\xff\xff\xff\xff\xff\xff\xff" + b"\x01" * 17,
        b"\xc0\xff",
        b"\xc0\x02",
        b"\xc0a\x01",
        b"\xc4\x01\x01\x01\x01\x01\x09\x22\x90../etc/passwd\x01",
        b"\x30\x10",
        b"\x31\x05\xe3\xff\xff\xff",  # a Decimal of 10**20000 zeros
        b"\xf1" * 300 + b"\xf0",
        b"\xd4\x01a" * 300 + b"\xf0",
        b"\xe1\x01a" * 300 + b"\xf0",
        b"\xca" * 300,
        b"\xcba\x01" * 300,
        b"\xf1\xcb\x01\xca",
        b"\x10\x10",
        b"\xf0\x00",
        b"\xda",
    ],
)
def test_known_bad_bytes(data):
    with pytest.raises(CodecError):
        decode(data)


def test_a_decimal_beyond_what_can_be_stored_is_refused_and_a_fraction_of_that_value_is_not():
    with pytest.raises(CodecError, match="exponent"):
        decode(bytes.fromhex("2f1e2db95505719351c390"))
    with pytest.raises(CodecError, match="digits"):
        decode(b"\xf1\xc9\x00\xb9\x20" + (10**10_000).to_bytes(4153, "big"))
    ordered = encode((Decimal("1E+6000"),))
    assert ordered.endswith(b"\x05\xe2\xdd\xe0")  # the exponent 6000
    with pytest.raises(CodecError, match="digits"):
        decode(ordered[:-1] + b"\xdf")  # -6000
    value = Fraction(3, 2**11_000)
    assert decode(encode((value, Decimal("Infinity")))) == (value, Decimal("Infinity"))
    assert type(decode(encode(value))) is Fraction


def test_a_nan_with_more_digits_than_can_be_read_is_refused_before_it_is_written():
    longest = Decimal("-NaN" + "1" * 9_996)
    assert str(decode(encode([longest]))[0]) == str(longest)
    for sign in ("", "-", "s"):
        with pytest.raises(CodecError, match="NaN of more than"):
            encode([Decimal(f"{sign}NaN" + "1" * 10_000)])


@pytest.mark.parametrize("value", [[1], {1: 2}, {3}, (4, [])])
def test_bytes_behind_a_container_are_refused(value):
    with pytest.raises(CodecError, match="more bytes follow"):
        decode(encode(value) + b"\x89")


def test_a_set_with_a_member_twice_is_refused():
    one, two = encode([1])[-1:], encode([2])[-1:]
    twice = encode({1, 2}).replace(two, one)
    with pytest.raises(CodecError, match="a member twice"):
        decode(twice)
