"""The codec beside pickle, cbor2, ormsgpack and msgspec: how many bytes, and how many values a second each way.

Values are encoded one by one, as they are stored. pickle and cbor2 keep all types, as pykesto does; ormsgpack and
msgspec turn some into others (a Decimal into a str, a set into a list), and do less work for it. A row is a value as
the engine stores it, each column ordered and by itself; its peers encode the same dict whole.
"""

from __future__ import annotations

import datetime as dt
import pickle
import random
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from examples.debian_packages.index import NoIndex, fields, paragraphs, read_index
from pykesto import codec

from .measuring import OWN, Bar, Failed, Line, conditions, figures, parser, rate, say, show, take_turns

Values = list[dict[str, Any]]
Peer = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]

EXACT = {OWN, "pickle", "cbor2"}  # they give back what they were given
SMALLER = tuple(Bar(0.9999, peer, at_most=True) for peer in ("pickle", "cbor2"))
AS_FAST = (Bar(1.0, "pickle"),)
PACKAGES = 1000
ROWS = (codec.encode_row, codec.decode_row)


def packages() -> Values:
    """Records of the Debian package index of this machine, or, where there is none, some of their like."""
    try:
        index = read_index(None)
    except NoIndex:
        index = invented_index()
    return [fields(paragraph) for paragraph in paragraphs(index, PACKAGES)]


def invented_index() -> str:
    """An index of packages that nobody made."""
    chance = random.Random(1)
    syllables = ["ba", "ce", "di", "fo", "gu", "lib", "py", "ter", "xo", "net", "dev", "mer"]

    def word(parts: int = 2) -> str:
        return "".join(chance.choices(syllables, k=parts))

    def text(words: int) -> str:
        return " ".join(word(chance.randint(1, 4)) for _ in range(words))

    def paragraph(number: int) -> str:
        name = f"{word(3)}{number}"
        version = f"{chance.randint(0, 9)}.{chance.randint(0, 30)}-{chance.randint(1, 9)}"
        depends = ", ".join(f"{word(3)} (>= {chance.randint(1, 9)}.2)" for _ in range(chance.randint(1, 12)))
        return "\n".join(
            [
                f"Package: {name}",
                f"Version: {version}",
                f"Installed-Size: {chance.randint(10, 100_000)}",
                f"Maintainer: {word()} {word()} <{word()}@{word()}.org>",
                "Architecture: amd64",
                f"Depends: {depends}",
                f"Description: {text(8)}",
                f"Description-md5: {chance.getrandbits(128):032x}",
                f"Homepage: https://{word()}.org/{name}/",
                f"Tag: {', '.join(f'{word()}::{word()}' for _ in range(chance.randint(2, 9)))}",
                f"Section: {word()}",
                "Priority: optional",
                f"Filename: pool/main/{name[0]}/{name}/{name}_{version}_amd64.deb",
                f"Size: {chance.randint(1000, 10**8)}",
                f"SHA256: {chance.getrandbits(256):064x}",
            ]
        )

    return "\n\n".join(paragraph(number) for number in range(PACKAGES))


def ycsb() -> Values:
    """Rows of ten columns with a hundred printable characters each."""
    chance = random.Random(1)
    printable = [chr(code) for code in range(33, 127)]
    return [{f"field{n}": "".join(chance.choices(printable, k=100)) for n in range(10)} for _ in range(200)]


def small() -> Values:
    """Records of the types that JSON has."""
    chance = random.Random(1)
    return [
        {
            "id": chance.randrange(10**6),
            "name": f"Ann Smith {chance.randrange(100)}",
            "age": chance.randrange(100),
            "email": f"ann{number}@example.org",
            "active": chance.random() < 0.5,
            "score": round(chance.random() * 1000, 2),
            "nick": None,
        }
        for number in range(200)
    ]


def typed() -> Values:
    """Records with dates, times and Decimals."""
    chance = random.Random(1)
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    return [
        {
            "id": number,
            "name": f"item {chance.randrange(1000)}",
            "price": Decimal(chance.randrange(100_000)).scaleb(-2),
            "rate": Decimal(chance.randrange(100_000)).scaleb(-4),
            "day": dt.date(2024, 1, 1) + dt.timedelta(chance.randrange(1000)),
            "at": start + dt.timedelta(microseconds=chance.randrange(10**14)),
            "active": chance.random() < 0.5,
            "weight": chance.random(),
        }
        for number in range(200)
    ]


def nested() -> Values:
    """One large document: orders with their items."""
    chance = random.Random(1)

    def item() -> dict[str, Any]:
        return {
            "sku": f"{chance.getrandbits(32):08x}",
            "count": chance.randrange(1, 20),
            "price": round(chance.random() * 100, 2),
        }

    def order(number: int) -> dict[str, Any]:
        return {
            "number": number,
            "customer": {"name": f"customer {chance.randrange(500)}", "vip": chance.random() < 0.1},
            "items": [item() for _ in range(chance.randint(1, 8))],
            "tags": [f"tag {chance.randrange(20)}" for _ in range(3)],
            "note": None if chance.random() < 0.8 else "leave it at the door",
        }

    return [{"orders": [order(number) for number in range(1000)], "pages": {str(n): n for n in range(100)}}]


WORKS: dict[str, tuple[Callable[[], Values], str, bool]] = {
    "packages": (packages, "Debian packages", False),
    "ycsb": (ycsb, "YCSB rows", True),
    "small": (small, "small records", True),
    "typed": (typed, "small typed records", True),
    "nested": (nested, "a large nested document", False),
}


def peers() -> tuple[dict[str, Peer], list[str]]:
    """Those that are installed, and the names of those that aren't."""
    found: dict[str, Peer] = {
        OWN: (codec.encode, codec.decode),
        "pickle": (partial(pickle.dumps, protocol=5), pickle.loads),
    }
    missing = []
    for name, make in {"cbor2": _cbor2, "ormsgpack": _ormsgpack, "msgspec": _msgspec}.items():
        try:
            found[name] = make()
        except ImportError:
            missing.append(name)
    return found, missing


def _cbor2() -> Peer:
    import cbor2

    return cbor2.dumps, cbor2.loads


def _ormsgpack() -> Peer:
    import ormsgpack

    def plainer(value: object) -> object:
        return list(value) if isinstance(value, set) else str(value)

    return partial(ormsgpack.packb, default=plainer), ormsgpack.unpackb


def _msgspec() -> Peer:
    import msgspec

    return msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode


def require_exact(title: str, name: str, peer: Peer, values: Values) -> None:
    encode, decode = peer
    if name in EXACT and [decode(encode(value)) for value in values] != values:
        raise Failed(f"{title}: {name} gives back something else")


def each(function: Callable[[Any], object], arguments: list[Any]) -> object:
    for argument in arguments:
        function(argument)
    return None


def lines_of(title: str, values: Values, asked: dict[str, Peer], fast: bool, options: Any) -> list[Line]:
    """Bytes, encoding and decoding of a data set, with one pair of functions for each peer."""
    encoded = {name: [encode(value) for value in values] for name, (encode, _) in asked.items()}
    for name, peer in asked.items():
        require_exact(title, name, peer, values)

    def measure(name: str) -> tuple[float, float]:
        encode, decode = asked[name]
        return (
            rate(partial(each, encode, values), options.seconds, each=len(values)),
            rate(partial(each, decode, encoded[name]), options.seconds, each=len(values)),
        )

    rounds = take_turns(list(asked), options.repeat, measure)
    sizes = {name: [sum(map(len, blocks)) / len(values)] for name, blocks in encoded.items()}
    bars = AS_FAST if fast else ()
    return [
        Line(f"{title}: size", sizes, "bytes each", SMALLER),
        Line(f"{title}: encode", figures(rounds, lambda one: one[0]), bars=bars),
        Line(f"{title}: decode", figures(rounds, lambda one: one[1]), bars=bars),
    ]


def found_columns(title: str, values: Values, options: Any) -> Line:
    """The last column of a row, found in its image; beside it, by decoding the whole row."""
    name = list(values[0])[-1]
    images = [codec.encode_row(value) for value in values if name in value]
    works: dict[str, Callable[[bytes], object]] = {
        OWN: lambda image: codec.find_column(image, name.encode()),
        "decode_row": lambda image: codec.decode_row(image)[name],
    }
    rounds = take_turns(
        list(works),
        options.repeat,
        lambda one: rate(partial(each, works[one], images), options.seconds, each=len(images)),
    )
    return Line(f"{title}: find the last column", figures(rounds, lambda one: one))


def main(argv: list[str]) -> int:
    options = parser("codec", __doc__, WORKS).parse_args(argv)
    asked, missing = peers()
    lines = []
    try:
        for work in options.only:
            make, title, fast = WORKS[work]
            say(title)
            values = make()
            lines += lines_of(title, values, asked, fast, options)
            if work != "nested":
                lines += lines_of(f"{title}, as rows", values, {**asked, OWN: ROWS}, fast, options)
                lines.append(found_columns(title, values, options))
    except Failed as error:
        say(f"benchmarks.codec: {error}")
        return 1
    show(lines, conditions(Path.cwd()), options, missing)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
