"""Enums, dataclasses, namedtuples and others are stored once they are registered, and never made of what is not."""

import collections
import dataclasses
import enum
import itertools
import pathlib
from decimal import Decimal
from typing import NamedTuple

import pytest

from pykesto.codec import (
    Unknown,
    decode,
    decode_key,
    decode_row,
    encode,
    encode_key,
    encode_row,
    family_range,
    is_scalar_encoding,
    range_of,
    register,
)
from pykesto.errors import CodecError, UsageError


@register
class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@register
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 20


@register
class Word(enum.StrEnum):
    YES = "yes"


@register
class Ratio(float, enum.Enum):
    HALF = 0.5


@register
class Access(enum.Flag):
    READ = 1
    WRITE = 2


@register
class Mode(enum.IntFlag):
    A = 1
    B = 2


@register
class Pair(NamedTuple):
    x: object
    y: object = 7


@register
@dataclasses.dataclass
class Point:
    x: object
    y: object = 0
    tags: list = dataclasses.field(default_factory=list)


@register
@dataclasses.dataclass(frozen=True, slots=True)
class Fixed:
    x: object

    def __post_init__(self):
        assert self.x != "never made anew"


class Money:
    def __init__(self, amount, currency):
        self.amount, self.currency = amount, currency

    def __eq__(self, other):
        return type(other) is Money and vars(self) == vars(other)

    def __repr__(self):
        return f"Money({self.amount}, {self.currency!r})"

    def __hash__(self):
        return hash((self.amount, self.currency))


register(Money, dump=lambda m: (m.currency, m.amount), load=lambda t: Money(t[1], t[0]), ordered=True)
register(pathlib.PurePosixPath, name="path", dump=str, load=pathlib.PurePosixPath)

VALUES = [
    *Colour,
    *Level,
    *Word,
    *Ratio,
    Access.READ | Access.WRITE,
    Mode.A | Mode.B,
    Mode(0),
    Pair(1, "a"),
    Pair(1.0, [2]),
    Pair(Level.LOW, Pair(Word.YES, None)),
    Point(1, {"a": Colour.RED}, [Level.LOW]),
    Fixed(Point(1)),
    Money(Decimal("1.50"), "EUR"),
    pathlib.PurePosixPath("/a/b"),
]
SCALARS = [v for v in VALUES if not isinstance(v, Point | Fixed | pathlib.PurePosixPath) and v != Pair(1.0, [2])]


def exactly(a, b):
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b) or a != b:
        return False
    if isinstance(a, tuple | list):
        return all(exactly(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return all(exactly(x, b[k]) for k, x in a.items())
    return True


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_an_instance_comes_back(value):
    for x in (value, [value], (value, 1.0, value), {"a": value, "b": [value]}, (1, (value, 2.5))):
        assert exactly(decode(encode(x)), x)
    assert exactly(decode_row(encode_row({"a": value, "b": value})), {"a": value, "b": value})


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_a_scalar_can_be_a_key_and_be_found(value):
    assert is_scalar_encoding(encode(value))
    lo, hi = range_of(value)
    assert lo == encode_key(value) <= encode(value) < hi
    assert encode((value, 1)).startswith(encode_key((value, 1)))
    assert decode_key(encode_key(value)) == value
    assert 0 not in encode((value, value))
    assert exactly(decode(encode({value: {value}})), {value: {value}})
    lo, hi = family_range(value)
    assert lo <= encode(value) < hi


@pytest.mark.parametrize("value", [v for v in VALUES if v not in SCALARS], ids=repr)
def test_others_can_not(value):
    assert not is_scalar_encoding(encode(value))
    with pytest.raises(CodecError):
        encode_key(value)


def test_what_is_equal_in_python_is_one_key():
    for member, plain in ((Level.LOW, 1), (Word.YES, "yes"), (Ratio.HALF, 0.5), (Mode.B, 2), (Pair(1, "a"), (1, "a"))):
        assert member == plain
        assert encode_key(member) == encode_key(plain)
        assert encode_key((member, "x")) == encode_key((plain, "x"))
        assert exactly(decode_key(encode_key(member)), plain)
        lo, hi = range_of(plain)
        assert lo <= encode(member) < hi
    lo, hi = range_of("yes")
    assert not lo <= encode("yes\0") < hi


def test_instances_are_ordered_by_what_they_are_stored_as():
    ladder = [Colour.GREEN, Colour.RED, Money(2, "EUR"), Money(Decimal("2.5"), "EUR"), Money(1, "USD")]
    for a, b in itertools.pairwise(ladder):
        assert encode_key(a) < encode_key(b)
        assert encode((a, 1.5)) < encode((b, 1))
    lo, hi = family_range(Colour.RED)
    assert [lo <= encode(x) < hi for x in (Colour.GREEN, Money(1, "EUR"), "red")] == [True, False, False]


def test_a_dataclass_may_have_changed_since_it_was_stored():
    old = encode([Unknown("Point", {"x": 1, "gone": 2})])
    assert decode(old) == [Point(1, 0, [])]
    assert decode(encode(Unknown("Fixed", {"x": "never made anew"}))).x == "never made anew"
    assert decode(encode(Unknown("Pair", (1,), True))) == Pair(1, 7)


STRANGE = [
    Unknown("Nobody", 1),
    Unknown("Nobody", 1, True),
    Unknown("Nobody", "a", True),
    Unknown("Nobody", (1, Unknown("Nothing", "a", True)), True),
    Unknown("Nobody", {"x": [Unknown("Nothing", 1.5)]}),
    Unknown("Colour", "blue"),
    Unknown("Level", 7, True),
    Unknown("Level", 1),
    Unknown("Pair", (1, 2, 3), True),
    Unknown("Point", 1),
    Unknown("Mode", "a", True),
    Unknown("\0ä", "\0"),
]


@pytest.mark.parametrize("value", STRANGE, ids=repr)
def test_what_is_of_no_known_type_is_kept_as_it_was(value):
    for x in (value, [value], (1, value, 2.0), {"a": value}):
        back = decode(encode(x))
        assert exactly(back, x)
        assert encode(back) == encode(x)
    assert repr(value) == f"Unknown({value.name!r}, {value.value!r})"


def test_unknown_values_are_compared_by_content():
    assert Unknown("A", 1) == Unknown("A", 1) != Unknown("A", 1, True)
    assert len({Unknown("A", 1), Unknown("A", 1), Unknown("B", 1), Unknown("A", 2)}) == 3
    assert Unknown("A", 1) != 1
    with pytest.raises(CodecError):
        Unknown("A", None, True)


def test_nothing_is_made_of_a_class_that_is_not_registered():
    made = []

    class Trap:
        def __new__(cls, *args):
            made.append(cls)
            return super().__new__(cls)

    value = decode(encode([Unknown(Trap.__qualname__, {"x": 1})]))
    assert type(value[0]) is Unknown
    assert not made


def test_what_a_class_makes_of_damaged_data_is_named():
    with pytest.raises(CodecError, match="Money") as caught:
        decode(encode([1, {"a": Unknown("Money", [1])}]))
    assert caught.value.path == "[1]['a']"
    with pytest.raises(CodecError, match="Money"):
        decode(encode(Unknown("Money", 1)))


def test_what_is_wrong_in_an_instance_is_named():
    with pytest.raises(CodecError) as caught:
        encode([Point({"a": object()})])
    assert caught.value.path == "[0]['x']['a']"
    with pytest.raises(CodecError):
        encode(Money([], "EUR"))


def test_a_subclass_of_a_registered_class_is_refused():
    class Sub(Point):
        pass

    with pytest.raises(CodecError):
        encode(Sub(1))


class Day(enum.Enum):
    MON = [1]


class Date(Decimal, enum.Enum):
    ONE = "1"


@pytest.mark.parametrize(
    ("cls", "options", "error"),
    [
        (1, {}, TypeError),
        (object, {}, UsageError),
        (Day, {}, CodecError),
        (Date, {}, UsageError),
        (Point, {"ordered": True}, UsageError),
        (Money, {"dump": str}, UsageError),
        (Money, {"name": "Point", "dump": str, "load": str}, UsageError),
        (Point, {"name": ""}, UsageError),
        (Point, {"name": "a" * 256}, UsageError),
    ],
)
def test_what_can_not_be_registered(cls, options, error):
    with pytest.raises(error):
        register(cls, **options)


def test_a_class_that_was_made_anew_takes_the_place_of_the_old_one():
    def make():
        cls = collections.namedtuple("Made", "a b")
        return register(cls, name="made again")

    old, new = make(), make()
    assert type(decode(encode(new(1, 2)))) is new
    assert type(decode(encode([new(1, 2)]))[0]) is new
    with pytest.raises(CodecError):
        encode(old(1, 2))


def test_a_decorator_takes_a_name():
    @register(name="shapes.Square")
    @dataclasses.dataclass
    class Square:
        side: int

    assert decode(encode(Square(2))) == Square(2)
    assert b"shapes.Square" in encode(Square(2))
