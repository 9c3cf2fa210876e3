"""Rows in the library's own layout: get_raw, put_raw, raw_batches."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pykesto import tc
from pykesto.errors import UsageError


def varint(number: int) -> bytes:
    low = []
    while number > 0x7F:
        low.append(0xFF ^ (number & 0x7F))
        number >>= 7
    return bytes([*low, number])


def pack(columns: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(varint(len(name)) + name + varint(len(value)) + value for name, value in columns)


def test_a_raw_row_is_names_and_values_each_after_its_size(table: tc.Table) -> None:
    for size in (0, 1, 127, 128, 300, 16383, 16384, 3_000_000):
        columns = [(b"a", b"v" * size), (b"n" * 200, b"w")]
        table[b"k"] = dict(columns)
        assert table.get_raw(b"k") == pack(columns)
        table.put_raw(b"raw", pack(columns))
        assert table[b"raw"] == dict(columns)
        assert table.get_raw(b"raw") == pack(columns)
    assert table.get_raw(b"missing") is None


@pytest.mark.parametrize(
    "row",
    [
        b"\x01",
        b"\x01a",
        b"\x01a\x02x",
        b"\xfe",
        b"\x01a\xfe\xfe\xfe\xfe\xfe\xfe\x01",
        b"\x01a\x80\x80\x80\x80\x7f",
        b"\x81\x00a\x00",
        b"\x01a\x01xjunk!",
        pack([(b"a", b"x"), (b"a", b"y")]),
    ],
)
def test_a_malformed_raw_row_is_refused(table: tc.Table, row: bytes) -> None:
    with pytest.raises(UsageError, match="row"):
        table.put_raw(b"k", row)
    assert b"k" not in table


def test_any_bytes_are_either_a_row_or_refused(tmp_path: Path) -> None:
    with tc.Table(tmp_path / "t", "n", bnum=100) as table:

        @given(st.binary(max_size=12))
        def check(row: bytes) -> None:
            try:
                table.put_raw(b"k", row)
            except UsageError:
                return
            assert table.get_raw(b"k") == row

        check()


def test_raw_rows_keep_the_indexes(table: tc.Table) -> None:
    table.create_index("age")
    table.put_raw(b"ann", pack([(b"age", b"41")]))
    assert list(table.query.col("age").equals("41")) == [b"ann"]
    with pytest.raises(UsageError, match="empty value"):
        table.put_raw(b"ann", pack([(b"age", b"")]))


def test_raw_batches_give_every_row_once(table: tc.Table) -> None:
    expected = {b"%d" % i: pack([(b"i", b"%d" % i)]) for i in range(1000)}
    for key, row in expected.items():
        table.put_raw(key, row)
    batches = list(table.raw_batches(64))
    assert max(map(len, batches)) == 64
    assert dict(pair for batch in batches for pair in batch) == expected
    assert sum(map(len, batches)) == 1000
    with pytest.raises(UsageError):
        table.raw_batches(0)
    iteration = table.raw_batches(10)
    next(iteration)
    del table[b"1"]
    with pytest.raises(RuntimeError):
        next(iteration)
