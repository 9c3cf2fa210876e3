"""The pages of a lexical index tell what a scan of the rows does, however often they are asked."""

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pykesto import tc
from pykesto.errors import UsageError

ROWS = 30_000  # of which some leaves of each index, below two or more nodes
TERMS = 3_000
Bounds = tuple[bytes | None, bytes | None]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tc.Table]:
    """Keys in an order of their own; a column with terms that have some ten keys each, and one of them a thousand."""
    path = tmp_path_factory.mktemp("pages") / "rows.tct"
    chance = random.Random(1)
    keys = [b"%06d" % n for n in range(ROWS)]
    chance.shuffle(keys)
    with tc.Table(path, "n") as made:
        made.create_index(b"")
        made.create_index(b"a")
        terms = [b"%04d" % (7 if n % 30 == 0 else chance.randrange(TERMS)) for n in range(ROWS)]
        made.apply_raw([(key, b"\x01a\x04" + term) for key, term in zip(keys, terms, strict=True)])
    with tc.Table(path, "r") as found:
        yield found


def some_bounds(chance: random.Random, digits: int, most: int) -> Iterator[Bounds]:
    for _ in range(60):
        low, high = sorted(chance.randrange(-1, most + 1) for _ in range(2))
        yield (
            None if low < 0 or chance.random() < 0.1 else b"%0*d" % (digits, low),
            None if chance.random() < 0.1 else b"%0*d" % (digits, high),
        )
    yield b"0007", b"0008"
    yield b"9", b"1"
    yield b"5", b"5"


@pytest.mark.parametrize(("column", "digits", "most"), [(b"", 6, ROWS), (b"a", 4, TERMS)])
def test_counts_are_those_of_the_entries_the_first_time_and_the_next(
    table: tc.Table, column: bytes, digits: int, most: int
) -> None:
    pages = tc.IndexPages(table, column)
    entries = pages.entries()
    assert len(entries) == ROWS
    for lo, hi in [*some_bounds(random.Random(2), digits, most)] * 2:
        expected = [one for one in entries if (lo is None or lo <= one[0]) and (hi is None or one[0] < hi)]
        assert pages.count(lo, hi) == len(expected), (lo, hi)
        assert pages.entries(lo, hi) == expected
        assert pages.estimate(lo, hi) == pytest.approx(len(expected), abs=ROWS / 20)


def test_an_index_that_is_larger_than_what_is_kept_gives_the_same(table: tc.Table) -> None:
    whole, parts = tc.IndexPages(table, b"a"), tc.IndexPages(table, b"a", leaves_kept=3)
    for lo, hi in some_bounds(random.Random(3), 4, TERMS):
        assert parts.entries(lo, hi) == whole.entries(lo, hi)
        assert parts.count(lo, hi) == whole.count(lo, hi)


def test_a_tail_is_left_out_of_keys(table: tc.Table) -> None:
    pages = tc.IndexPages(table, b"", tail=2)
    assert pages.entries(b"0123", b"0124") == [(b"0123", b"0123")] * 100
    assert pages.count(b"0123", b"0125") == 200
    assert tc.IndexPages(table, b"a", tail=6).entries(b"0007", b"0008")[0] == (b"0007", b"")
    with pytest.raises(UsageError, match="-1"):
        tc.IndexPages(table, b"", tail=-1)


CIRCLE = """
import sys
from pykesto import errors, tc
with tc.Table(sys.argv[1], "r") as table:
    pages = tc.IndexPages(table, b"")
    for lo, hi in ((None, b"00100000"), (b"00000001", None), (b"00000001", b"00199999")):
        try:
            pages.count(lo, hi)
        except errors.CorruptionError as error:
            print(error)
"""


def test_an_inner_page_that_leads_to_itself_is_damage(tmp_path: Path) -> None:
    rows = tmp_path / "rows.tct"
    with tc.Table(rows, "n") as made:
        made.create_index(b"")
        made.apply_raw([(b"%08d" % n, b"\x01a\x01b") for n in range(200_000)])
    (index,) = tmp_path.glob("*.idx.*")
    content = bytearray(index.read_bytes())
    # The root's name, and its first child: a number beyond 2**48, which stands for an inner page
    root = max(re.finditer(rb"#([1-9])([\x80-\xff]\xff{5}\x40)", content), key=lambda found: found[1])
    content[root.start(2)] = 0xFE - int(root[1])
    index.write_bytes(content)
    ended = subprocess.run([sys.executable, "-c", CIRCLE, rows], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("damaged") >= 2
