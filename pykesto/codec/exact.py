"""Exact rationals in order: the parts of a number that fit neither an int nor a float.

Decimals and Fractions come here where their value is not integral; floats and ints never do. What is
written compares, byte by byte, as the numbers do; docs/codec.md has the layout. Every code ends by itself
and holds no NUL.
"""

from __future__ import annotations

from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction

__all__ = [
    "BITS_MAX",
    "DIGITS_MAX",
    "EXACT",
    "FLIPPED",
    "canonical",
    "decimal_of",
    "fraction",
    "is_bounded",
    "is_float",
    "large",
    "read_tail",
    "small",
]

BITS_MAX = 1 << 17  # of a number whose zeros at the end are not stored, or of a term that is no int
DIGITS_MAX = 10_000  # of a Decimal, and the bound on its exponent
TERMS_MAX = 100_000
_RUN = 0x18

# 256 - byte: reverses the order and keeps NUL out.
FLIPPED = bytes([0, *range(255, 0, -1)])

EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


def count(n: int) -> bytes:
    """n >= 0, in order: one byte up to 207, then the number of 7-bit groups and the groups."""
    if n < 208:
        return bytes([0x10 + n])
    groups = bytearray()
    for shift in range((n.bit_length() - 1) // 7 * 7, -1, -7):
        groups.append(0x80 | (n >> shift & 0x7F))
    head = bytes([0xE0 + len(groups)]) if len(groups) < 26 else b"\xfa" + count(len(groups))
    return head + bytes(groups)


def fraction(num: int, den: int) -> bytes:
    """0 < num/den < 1 after an integer part: hundredths, then the rest."""
    digit, rest = divmod(num * 100, den)
    head = bytes([0x10 + 2 * digit + (rest > 0)])
    return head + _counted(_binary(rest, den)) if rest else head


def _counted(groups: bytes) -> bytes:
    """Groups that begin with several of zeros, or of ones, with a count of them; a tail may follow."""
    first = groups[:1]
    if first not in (b"\x01", b"\xff"):
        return groups
    run = 1
    while run < 8 and groups[run : run + 1] == first:
        run += 1
    return first + bytes([_RUN - run + 1 if first == b"\x01" else _RUN + run - 1]) + groups[run:]


def small(num: int, den: int) -> bytes:
    """0 < num/den < 1/64: the exponent of two, then the mantissa."""
    exponent = num.bit_length() - den.bit_length()
    if num << -exponent >= den:
        exponent += 1
    return count(-6 - exponent).translate(FLIPPED) + _binary(num << -exponent, den)


def large(num: int, den: int) -> bytes:
    """num/den >= 2**63 and not integral: the length and groups of the integer part, then the tail."""
    whole, rest = divmod(num, den)
    bits = whole.bit_length()
    size = (bits + 6) // 7
    whole <<= size * 7 - bits
    groups = bytes((whole >> shift & 0x7F) << 1 | 1 for shift in range(size * 7 - 7, -1, -7))
    return count(bits - 64) + groups + _tail(rest, den)


def _binary(num: int, den: int) -> bytes:
    out = bytearray()
    for _ in range(8):
        group, num = divmod(num << 7, den)
        out.append(group << 1 | (num > 0))
        if not num:
            return bytes(out)
    return bytes(out) + _tail(num, den)


def _tail(num: int, den: int) -> bytes:
    out = bytearray()
    for _ in range(16):
        digit, num = divmod(num * 100, den)
        out.append(digit << 1 | (num > 0))
        if not num:
            return bytes(out)
    # A continued fraction is exact for every rational; a larger odd term makes the value smaller, so it is flipped.
    odd = True
    while num:
        term, rest = divmod(den, num)
        den, num = num, rest
        out += count(term).translate(FLIPPED) if odd else count(term)
        odd = not odd
    out.append(0x01 if odd else 0xFF)
    return bytes(out)


def read_tail(data: bytes) -> tuple[int, int, int]:
    """The numerator and denominator of a tail at the start of data, and its size. ValueError: no tail."""
    num, den, pos = 0, 1, 0
    for _ in range(16):
        if pos >= len(data):
            raise ValueError("a number ends too early")
        byte = data[pos]
        pos += 1
        if byte >= 200:
            raise ValueError("a decimal digit is out of range")
        num, den = num * 100 + (byte >> 1), den * 100
        if not byte & 1:
            return num, den, pos
    terms: list[int] = []
    bits = 0
    while True:
        odd = not len(terms) & 1
        if data[pos : pos + 1] == (b"\x01" if odd else b"\xff"):
            break
        term, pos = _read_count(data, pos, odd)
        bits += term.bit_length()
        if not term or bits > BITS_MAX or len(terms) == TERMS_MAX:
            raise ValueError("a continued fraction is out of range")
        terms.append(term)
    if not terms:
        raise ValueError("a continued fraction has no terms")
    # The value is 1/(t1 + 1/(t2 + ...)), from the last term up.
    above, below = 0, 1
    for term in reversed(terms):
        above, below = below, term * below + above
    return num * below + above, den * below, pos + 1


def _read_count(data: bytes, pos: int, flipped: bool) -> tuple[int, int]:
    table = FLIPPED if flipped else bytes(range(256))
    if pos >= len(data):
        raise ValueError("a number ends too early")
    head = table[data[pos]]
    pos += 1
    if 0x10 <= head < 0xE0:
        return head - 0x10, pos
    if 0xE2 <= head < 0xFA:
        size = head - 0xE0
    elif head == 0xFA:
        size, pos = _read_count(data, pos, flipped)
        if size > BITS_MAX // 7 + 1:
            raise ValueError("a count is out of range")
    else:
        raise ValueError("a count has no such head")
    groups = data[pos : pos + size].translate(table)
    if len(groups) < size:
        raise ValueError("a number ends too early")
    n = 0
    for group in groups:
        n = n << 7 | group & 0x7F
    return n, pos + size


def decimal_of(num: int, den: int, exponent: int) -> Decimal:
    """The Decimal of exactly this value and exponent. ValueError: there is none."""
    if exponent >= 0:
        coefficient, rest = divmod(num, den * 10**exponent)
    else:
        coefficient, rest = divmod(num * 10**-exponent, den)
    if rest:
        raise ValueError("a Decimal's exponent does not fit its value")
    return EXACT.scaleb(Decimal(coefficient), exponent)


def is_bounded(number: Decimal) -> bool:
    """Whether a Decimal has no more digits, and no larger exponent, than may be stored."""
    _, digits, exponent = number.as_tuple()
    return isinstance(exponent, str) or (len(digits) <= DIGITS_MAX and -DIGITS_MAX <= exponent <= DIGITS_MAX)


def is_float(num: int, den: int) -> bool:
    """Whether num/den, in lowest terms and not integral, is exactly a float."""
    return not den & (den - 1) and num.bit_length() <= 53 and den.bit_length() <= 1075


def canonical(num: int, den: int) -> int | float | Decimal | Fraction:
    """The plainest number of this value: int, else float, else Decimal, else Fraction."""
    exact = Fraction(num, den)
    num, den = exact.numerator, exact.denominator
    if den == 1:
        return num
    if is_float(num, den):
        return num / den
    twos = (den & -den).bit_length() - 1
    odd = den >> twos
    fives = 0
    while odd % 5 == 0:
        odd //= 5
        fives += 1
    if odd == 1:
        return decimal_of(num, den, -max(twos, fives))
    return exact
