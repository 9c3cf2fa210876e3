"""A base stores a key with a tail: the library's hash spreads it, its order stays, and nobody gets to see the tail."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pykesto
from pykesto import CorruptionError, UsageError, tc
from pykesto.codec import encode_key
from pykesto.engine.guard import TAIL_BYTES, own_key, pack_row, stored_key, unpack_row

KEYS = st.recursive(
    st.integers() | st.text(max_size=5) | st.binary(max_size=5) | st.floats(allow_nan=False),
    lambda keys: st.lists(keys, max_size=3).map(tuple),
    max_leaves=4,
)


@given(st.lists(KEYS.map(encode_key), max_size=20))
def test_stored_keys_are_in_the_order_of_keys(keys: list[bytes]) -> None:
    assert [own_key(stored) for stored in sorted(map(stored_key, keys))] == sorted(keys)


def bucket(stored: bytes, buckets: int) -> int:
    """As Tokyo Cabinet's `tchdbbidx` has it."""
    index = 19780211
    for byte in stored:
        index = (index * 37 + byte) & 0xFFFFFFFFFFFFFFFF
    return index % buckets


@pytest.mark.parametrize("buckets", [20_000, 160_001])
@pytest.mark.parametrize("key", [lambda n: n, lambda n: n * 256, lambda n: f"user{n}", lambda n: (n % 50, n)])
def test_keys_that_differ_in_a_few_bytes_share_no_more_buckets_than_by_chance(key, buckets: int) -> None:  # type: ignore[no-untyped-def]
    count = 20_000
    shared = Counter(bucket(stored_key(encode_key(key(n))), buckets) for n in range(count))
    assert sum(n * n for n in shared.values()) / count < 1.05 * (1 + count / buckets)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of a table of three rows in a base, the only one."""
    with pykesto.open(tmp_path / "app.kesto") as db:
        with db.transaction() as s:
            s.table("people").create_index("age")
            s.table("people").create_index("tags[]")
            s.table("people").update({key: {"age": key, "tags": ["a", "b"]} for key in range(3)})
        assert db.checkpoint().done
    return next((tmp_path / "app.kesto").glob("base/*/*people*.tct"))


def test_a_base_has_stored_keys_and_its_indexes_give_those_of_the_rows(file: Path) -> None:
    keys = [encode_key(key) for key in range(3)]
    with tc.Table(file, "r") as table:
        assert sorted(table) == [stored_key(key) for key in keys]
        pages = tc.IndexPages(table, b"", tail=TAIL_BYTES)
        assert pages.entries() == [(key, key) for key in keys]
        assert pages.entries(keys[1], keys[2]) == [(keys[1], keys[1])]
        assert {key for _, key in tc.IndexPages(table, b"age", tail=TAIL_BYTES).entries()} == set(keys)
        assert {key for _, key in tc.IndexPages(table, b"age").entries()} == {stored_key(key) for key in keys}
        with pytest.raises(UsageError, match="-1"):
            tc.IndexPages(table, b"age", tail=-1)
        too_long = len(keys[0]) + TAIL_BYTES + 1
        for column in (b"", b"age"):
            with pytest.raises(CorruptionError, match="damaged"):
                tc.IndexPages(table, column, tail=too_long).entries()


def test_the_checker_finds_a_row_that_nobody_else_would(file: Path) -> None:
    key = encode_key(1)
    astray = stored_key(key)[:-1] + b"\x7f"
    with tc.Table(file, "w") as table:
        row = unpack_row(stored_key(key), table.get_raw(stored_key(key)) or b"", None)
        del table[stored_key(key)]
        table.put_raw(astray, pack_row(astray, row))
    with pykesto.open(file.parents[2]) as db:
        assert any("the tail of another" in problem for problem in db.check().problems)
