"""The order of encodings is the order of values, and keys are equal where values are."""

import functools
import itertools
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pykesto.codec import decode, encode, encode_key
from pykesto.errors import CodecError
from tests.codec.codec_values import EDGES, FAMILIES, SCALE, close_numbers, compare, numbers, scalars


def check(a, b):
    one, other = encode_key(a), encode_key(b)
    assert (one > other) - (one < other) == compare(a, b), (a, b, one.hex(), other.hex())
    if one != other:
        # What differs in the key decides, whatever follows it.
        assert (encode(a) < encode(b)) == (one < other)
        assert (encode(a) + b"\0" < encode(b) + b"\0") == (one < other)
    assert encode(a).startswith(one)
    assert encode(b).startswith(other)
    assert 0 not in encode(a)
    assert 0 not in one


@given(numbers, numbers)
@settings(max_examples=int(1500 / SCALE))
def test_numbers_of_all_types_are_in_exact_order(a, b):
    check(a, b)


@given(close_numbers())
@settings(max_examples=int(2500 / SCALE))
def test_numbers_side_by_side_are_in_exact_order(pair):
    check(*pair)


def test_the_edges_of_every_length_are_in_order():
    ladder = []
    longest = [s * (2**131072 + d) for s in (1, -1) for d in (-2, -1, 0, 1, 2**131072)]
    for n in [*EDGES, *longest]:
        steps = {Fraction(n), n - Fraction(1, 10), n + Fraction(1, 10**40), n + Fraction(1, 64), n + Fraction(1, 3)}
        if abs(n) < 2**60:
            steps |= {Fraction(math.nextafter(n, math.inf)), Fraction(float(n))}
        if abs(n).bit_length() < 32000:
            ladder += steps
        else:
            ladder.append(n)
    ladder = sorted(set(ladder))
    keys = [encode_key(n) for n in ladder]
    assert all(a < b for a, b in itertools.pairwise(keys))


@pytest.mark.parametrize(
    "ladder",
    [
        [0.1, Decimal("0.1000000000000000055511151231257827021181583404541015626"), Decimal("0.11")],
        [Decimal("0.1"), 0.1, math.nextafter(0.1, 1)],
        [2**53, float(2**53) + 0, 2**53 + 1, float(2**53 + 2), Decimal(2**53 + 2) + Decimal("0.1"), 2**53 + 3],
        [
            -math.inf,
            -(10**400),
            -1e308,
            -(2**63) - 1,
            -(2**63),
            -1.5,
            Fraction(-4, 3),
            -1,
            -0.5,
            -1e-300,
            0,
            5e-324,
            1e-300,
            Decimal("0.01"),
            Fraction(1, 3),
            0.5,
            True,
            1.5,
            127,
            128,
            1e308,
            10**400,
            math.inf,
            math.nan,
        ],
        [
            None,
            -math.inf,
            math.inf,
            math.nan,
            "",
            "\0",
            "\0a",
            "\1",
            "\2",
            "a",
            "a\0",
            "aa",
            "é",
            "\uffff",
            "\U00010000",
            b"",
            b"\0",
            b"\xff",
        ],
    ],
)
def test_known_ladders_climb(ladder):
    keys = [encode(x) for x in ladder]
    assert all(a <= b for a, b in itertools.pairwise(keys)), [k.hex() for k in keys]


@given(scalars, scalars)
@settings(max_examples=int(1500 / SCALE))
def test_scalars_and_tuples_are_in_order(a, b):
    check(a, b)


@pytest.mark.parametrize("index", range(len(FAMILIES)))
def test_each_family_is_in_order(index):
    @given(FAMILIES[index], FAMILIES[index], FAMILIES[index])
    @settings(max_examples=int(300 / SCALE))
    def run(a, b, c):
        check(a, b)
        check((a, c), (b, c))
        check((c, a), (c, b))

    run()


@given(st.lists(scalars, max_size=8))
def test_sorting_the_bytes_sorts_the_values(values):
    by_bytes = [decode(e) for e in sorted(map(encode, values))]
    assert all(compare(a, b) <= 0 for a, b in itertools.pairwise(by_bytes))
    assert [
        compare(a, b) for a, b in zip(by_bytes, sorted(values, key=functools.cmp_to_key(compare)), strict=True)
    ] == [0] * len(values)


def test_values_equal_in_python_are_one_key():
    for same in (
        [1, 1.0, True, Decimal(1), Decimal("1.00"), Fraction(1)],
        [0, -0.0, False, Decimal("-0.0")],
        [0.5, Decimal("0.5")],
        [math.inf, Decimal("Infinity")],
        [1e30, int(1e30), Decimal(int(1e30))],
    ):
        assert len({encode_key(x) for x in same}) == 1
        assert len({encode_key((x, "a")) for x in same}) == 1
    assert encode_key("1") != encode_key(b"1")


def test_equal_elements_of_tuples_let_the_next_ones_decide():
    assert encode((1.0, "a")) < encode((1, "b")) < encode((1.0, "c")) < encode((Decimal(1), "d"))


class Odd(int):
    pass


@pytest.mark.parametrize(
    "value", [math.nan, Decimal("NaN"), [1], {}, {1}, (1, [2]), Odd(1), 1j, bytearray(b"a"), object()]
)
def test_what_is_no_scalar_can_not_be_a_key(value):
    with pytest.raises(CodecError):
        encode_key(value)
