"""Values for the codec's tests: strategies, and equality that sees types, signs and zones."""

import datetime as dt
import math
import os
import zoneinfo
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

from pykesto.codec import Reference, Unknown

# Divides the numbers of examples; 0.1 makes a long night of it.
SCALE = float(os.environ.get("KESTO_CODEC_SCALE", "5"))

# Neighbours: powers of two and ten, and the edges of every length of number, with fractions beside them.
EDGES = sorted(
    {
        sign * (base + step)
        for base in [0, 16, 100, 128, 383, 16 + 255, 2**16, 2**53, 2**62, 2**63, 2**64, 10**23]
        + [128 + sum(255**k for k in range(1, n)) for n in range(2, 9)]
        + [16 + sum(255**k for k in range(1, n)) for n in range(2, 9)]
        for step in (-2, -1, 0, 1, 2)
        for sign in (1, -1)
    }
)

integers = st.one_of(
    st.integers(-300, 300),
    st.sampled_from(EDGES),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.builds(lambda n, e: n << e, st.integers(-3, 3), st.integers(0, 2000)),
)
floats = st.one_of(
    st.floats(allow_nan=False),
    st.integers(-(2**60), 2**60).map(float),
    st.builds(lambda n, d: n / d, st.integers(-9999, 9999), st.sampled_from([10, 100, 64, 128, 1000])),
    st.sampled_from(
        [
            0.1,
            0.01,
            1 / 64,
            -1 / 64,
            math.nextafter(1 / 64, 0),
            5e-324,
            -5e-324,
            2.2250738585072014e-308,
            1.7976931348623157e308,
            2.0**63,
            -(2.0**63),
            math.nextafter(2.0**63, 0),
            -0.0,
            0.0,
        ]
    ),
)
decimals = st.one_of(
    st.decimals(allow_nan=False),
    st.builds(lambda n, e: Decimal(n).scaleb(e), st.integers(-99999, 99999), st.integers(-8, 8)),
    st.builds(
        lambda d, n, e: Decimal((n, d, e)),
        st.lists(st.integers(0, 9), min_size=1, max_size=60).map(tuple),
        st.integers(0, 1),
        st.integers(-90, 40),
    ),
    floats.map(Decimal),
    st.sampled_from([Decimal("0.01"), Decimal("-0.01"), Decimal("1E+6000"), Decimal("-1E-400"), Decimal("-0.00")]),
)
fractions = st.one_of(
    st.fractions(),
    st.builds(Fraction, st.integers(), st.integers(1, 10**40)),
    floats.filter(math.isfinite).map(Fraction),
    st.builds(lambda x, n: Fraction(x) + Fraction(1, n), floats.filter(math.isfinite), st.integers(1, 10**30)),
)
numbers = st.one_of(st.booleans(), integers, floats, decimals, fractions)


@st.composite
def close_numbers(draw):
    """Two numbers that lie side by side, or are equal but of two types."""
    x = draw(floats.filter(math.isfinite))
    exact = Fraction(x)
    kinds = [
        st.just(x),
        st.just(Decimal(x)),
        st.just(exact),
        st.just(math.nextafter(x, math.inf)),
        st.just(math.floor(x)),
        st.just(math.ceil(x)),
        st.just(Decimal(repr(x))),
        st.builds(lambda n, s: exact + s * Fraction(1, n), st.integers(1, 10**50), st.sampled_from([1, -1])),
        st.builds(lambda e, s: Decimal(x) + s * Decimal(1).scaleb(-e), st.integers(0, 60), st.sampled_from([1, -1])),
    ]
    return draw(st.one_of(kinds)), draw(st.one_of(kinds))


ZONES = [zoneinfo.ZoneInfo(k) for k in ("Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC")]
offsets = (
    st.builds(
        dt.timezone,
        st.one_of(
            st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)),
            st.integers(-23, 23).map(lambda h: dt.timedelta(hours=h)),
        ),
    )
    | st.just(dt.UTC)
    | st.just(dt.timezone(dt.timedelta(hours=1), "Zürich\0"))
)
folds = st.integers(0, 1)
naive = st.builds(lambda d, f: d.replace(fold=f), st.datetimes(), folds) | st.datetimes().map(
    lambda d: d.replace(microsecond=0)
)
aware = st.builds(lambda d, f: d.replace(fold=f), st.datetimes(timezones=offsets | st.sampled_from(ZONES)), folds)
naive_times = st.builds(
    lambda t, f, z: t.replace(fold=f, tzinfo=z), st.times(), folds, st.none() | st.sampled_from(ZONES[:3])
)
aware_times = st.builds(lambda t, f, z: t.replace(fold=f, tzinfo=z), st.times(), folds, offsets)
texts = st.text() | st.text("\0\1\2\3aé\uffff\U0001f600", max_size=6)
blobs = st.binary() | st.lists(st.sampled_from([0, 1, 2, 3, 254, 255]), max_size=6).map(bytes)
references = st.binary(min_size=16, max_size=16).map(Reference)

FAMILIES = [
    st.none(),
    numbers,
    texts,
    blobs,
    st.dates(),
    naive,
    aware,
    naive_times,
    aware_times,
    st.timedeltas(),
    st.uuids(),
    references,
]
leaves = st.one_of(FAMILIES)
scalars = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)
odd = st.sampled_from(
    [
        float("nan"),
        Decimal("NaN"),
        Decimal("sNaN12"),
        Decimal("-NaN7"),
        Decimal("Infinity"),
        Decimal("-Infinity"),
        math.inf,
        -math.inf,
        1j,
        complex(-0.0, math.inf),
    ]
)
unknown_names = st.just("") | st.text(max_size=4).map("?{}".format)  # no test registers a type by such a name
anything = st.recursive(
    scalars
    | odd
    | st.complex_numbers(allow_nan=False)
    | blobs.map(bytearray)
    | st.builds(range, st.integers(), st.integers(), st.integers().filter(bool))
    | st.builds(Unknown, unknown_names, scalars)
    | st.builds(Unknown, unknown_names, integers | texts | floats, st.just(True)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(scalars, inner, max_size=4),
        st.dictionaries(st.text(), inner, max_size=4),
        st.lists(st.fixed_dictionaries({"a": inner, "ä" * 50: inner}), max_size=3),
        st.sets(scalars, max_size=4),
        st.frozensets(scalars, max_size=4),
    ),
    max_leaves=12,
)


def shape(x):
    """Everything about a value that a round trip must keep, as something that can be compared."""
    t = type(x)
    if t in (list, tuple):
        return t.__name__, [shape(i) for i in x]
    if t is dict:
        return "dict", [(shape(k), shape(v)) for k, v in x.items()]
    if t in (set, frozenset):
        return t.__name__, sorted((shape(i) for i in x), key=repr)
    if t is complex:
        return "complex", shape(x.real), shape(x.imag)
    if t is float:
        return "float", repr(x)
    if t is Decimal:
        return "Decimal", x.as_tuple()
    if t in (dt.datetime, dt.time):
        zone = x.tzinfo
        named = isinstance(zone, zoneinfo.ZoneInfo)
        return t.__name__, repr(x.replace(tzinfo=None)), x.fold, zone.key if named else repr(zone)
    if t is Reference:
        return "Reference", x.id
    if t is range:
        return "range", x.start, x.stop, x.step
    if t is Unknown:
        return "Unknown", x.name, x.equal, shape(x.value)
    return t.__name__, x


RANK = {
    type(None): 0,
    bool: 1,
    int: 1,
    float: 1,
    Decimal: 1,
    Fraction: 1,
    str: 2,
    bytes: 3,
    dt.date: 4,
    dt.timedelta: 9,
}


def rank(x):
    if type(x) in RANK:
        return RANK[type(x)]
    if type(x) is dt.datetime:
        return 5 if x.tzinfo is None else 6
    if type(x) is dt.time:
        return 7 if x.utcoffset() is None else 8
    return {Reference: 11, tuple: 12}.get(type(x), 10)


def instant(x):
    """What aware values are ordered by: the instant, whatever the zones."""
    if type(x) is dt.datetime:
        if x.tzinfo is None:
            return x
        start = dt.datetime(1, 1, 1)
        return x.replace(tzinfo=None) - start - x.utcoffset()
    if type(x) is dt.time and x.utcoffset() is not None:
        offset = x.utcoffset()
        shift = offset.days * 86400 + offset.seconds
        return x.hour * 3600 + x.minute * 60 + x.second - shift, x.microsecond
    if type(x) is dt.time:
        return x.replace(tzinfo=None)
    return x


def compare(a, b):
    """-1, 0 or 1: the order that docs/codec.md promises, written without bytes."""
    if rank(a) != rank(b):
        return -1 if rank(a) < rank(b) else 1
    if type(a) is tuple:
        for x, y in zip(a, b, strict=False):
            if c := compare(x, y):
                return c
        return (len(a) > len(b)) - (len(a) < len(b))
    if a is None:
        return 0
    if type(a) is Reference:
        a, b = a.id, b.id
    if type(a) is str:
        a, b = [ord(c) for c in a], [ord(c) for c in b]
    if rank(a) == 1:
        # Decimal and Fraction compare with floats, but not all with each other.
        a, b = (x if type(x) is not Decimal or not x.is_finite() else Fraction(x) for x in (a, b))
        a, b = (float(x) if type(x) is Decimal else x for x in (a, b))
    else:
        a, b = instant(a), instant(b)
    return (a > b) - (a < b)
