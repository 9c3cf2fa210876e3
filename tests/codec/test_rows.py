"""Rows in Tokyo Cabinet's own layout."""

import contextlib
import ctypes
import ctypes.util
import gc
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pykesto.codec import _codec, decode_row, encode, encode_row, find_column, pack_columns, parse_columns
from pykesto.errors import CodecError

columns = st.dictionaries(
    st.binary(max_size=200), st.binary(max_size=400) | st.binary(min_size=120, max_size=140), max_size=6
)


@given(columns)
@settings(max_examples=300)
@example({b"a" * 127: b"b" * 128, b"c" * 128: b"d" * 16384, b"": b""})
def test_columns_come_back(row):
    image = pack_columns(row)
    assert pack_columns(list(row.items())) == image
    assert parse_columns(image) == row
    assert parse_columns(b"head" + image, 4) == row
    for name, value in row.items():
        assert find_column(image, name) == value
        assert find_column(b"head" + image, name, 4) == value
    assert find_column(image, b"no such column") is None


def test_the_layout_by_hand():
    image = pack_columns({b"name": b"Ann", b"x": b"y" * 300})
    assert image == b"\x04name\x03Ann" + b"\x01x" + bytes([0xFF - 300 % 128, 300 // 128]) + b"y" * 300


def library():
    name = ctypes.util.find_library("tokyocabinet")
    if name is None:
        pytest.skip("Tokyo Cabinet is not installed")
    tc = ctypes.CDLL(name)
    tc.tcmapnew.restype = tc.tcmapdump.restype = tc.tcmapload.restype = ctypes.c_void_p
    return tc


@given(columns)
@settings(max_examples=100, deadline=None)
@example({b"a" * 127: b"b" * 128, b"c" * 16383: b"d" * 16384, b"e": b"f" * 2_097_152})
def test_the_layout_is_that_of_the_library(row):
    tc = library()
    table = ctypes.c_void_p(tc.tcmapnew())
    for name, value in row.items():
        tc.tcmapput(table, name, len(name), value, len(value))
    size = ctypes.c_int()
    dump = tc.tcmapdump(table, ctypes.byref(size))
    try:
        image = ctypes.string_at(dump, size.value)
        assert image[:80] == pack_columns(row)[:80]
        assert hash(image) == hash(pack_columns(row))  # its repr would be too long
    finally:
        tc.tcfree(ctypes.c_void_p(dump))
        tc.tcmapdel(table)


def test_a_row_of_a_table_file_is_parsed_where_it_lies(tmp_path):
    tc = library()
    tc.tctdbnew.restype = tc.tchdbget.restype = ctypes.c_void_p
    tc.tctdbopen.restype = tc.tctdbput.restype = tc.tctdbclose.restype = ctypes.c_bool
    path = str(tmp_path / "rows.tct").encode()
    row = {b"name": b"Ann", b"long": b"x" * 300, b"empty": b""}
    columns = ctypes.c_void_p(tc.tcmapnew())
    for name, value in row.items():
        tc.tcmapput(columns, name, len(name), value, len(value))
    table = ctypes.c_void_p(tc.tctdbnew())
    assert tc.tctdbopen(table, path, 2 | 4)
    assert tc.tctdbput(table, b"k", 1, columns)
    hash_file = ctypes.c_void_p(ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[1])  # TCTDB begins with mmtx, hdb
    size = ctypes.c_int()
    block = tc.tchdbget(hash_file, b"k", 1, ctypes.byref(size))
    image = ctypes.string_at(block, size.value)
    tc.tcfree(ctypes.c_void_p(block))
    tc.tcmapdel(columns)
    assert tc.tctdbclose(table)
    tc.tctdbdel(table)
    assert image == pack_columns(row)
    assert parse_columns(image) == row


@given(st.binary(max_size=60))
@settings(max_examples=500)
def test_bytes_that_are_no_row_are_refused(image):
    try:
        row = parse_columns(image)
    except CodecError:
        return
    assert all(find_column(image, name) is not None for name in row)


@given(columns.filter(bool), st.data())
def test_a_row_that_was_cut_is_refused_or_shorter(row, data):
    image = pack_columns(row)
    cut = data.draw(st.integers(0, len(image) - 1))
    with contextlib.suppress(CodecError):
        assert len(parse_columns(image[:cut])) < len(row)


def test_sizes_beyond_the_image_are_refused():
    for image in (b"\x01", b"\x01\x05ab", b"\x80\x80\x80\x80\x80\x80", b"\xff\xff\xff\xff\x7f\x01a", b"\x80"):
        for call in (parse_columns, decode_row, lambda i: find_column(i, b"zz")):
            with pytest.raises(CodecError):
                call(image)
    for start in (-1, 3):
        with pytest.raises(CodecError):
            parse_columns(b"", start)


@given(
    st.dictionaries(st.text(min_size=1, max_size=150), st.text() | st.integers() | st.binary(max_size=300), max_size=5)
)
def test_a_row_is_its_columns_encoded(row):
    assert encode_row(row) == pack_columns({name.encode(): encode(value) for name, value in row.items()})
    assert decode_row(encode_row(row)) == row


def test_values_of_every_length_fit_behind_their_name():
    for size in (0, 126, 127, 128, 16382, 16383, 16384, 3_000_000):
        row = {"name": "x" * size, "after": 1}
        assert decode_row(encode_row(row)) == row
        assert encode_row(row) == pack_columns({n.encode(): encode(v) for n, v in row.items()})


@pytest.mark.parametrize("name", ["", 1, b"a", "\ud800"])
def test_a_column_is_named_by_text(name):
    with pytest.raises(CodecError):
        encode_row({name: 1})


def test_damage_in_a_column_is_named():
    with pytest.raises(CodecError) as caught:
        decode_row(pack_columns({b"age": b"\x30", b"tags": b"\xf2\x89\xda"}))
    assert caught.value.path == "['tags'][1]"
    with pytest.raises(CodecError):
        decode_row(pack_columns({b"empty": b""}))
    with pytest.raises(CodecError):
        decode_row(pack_columns({b"\xff": b"\x10"}))


def test_compiled_modules_find_the_codec():
    face = {"key_of", "bytes_of", "value_of", "image_of", "row_of", "column_of", "next_column", "find_in"}
    assert face == set(_codec.__pyx_capi__)


def test_rows_alike_are_dicts_of_their_own():
    rows = [
        {"name": f"row {n}", "n": n, "x": n / 2, "list": [n] if n % 2 else n, "none": None} for n in range(-300, 300, 7)
    ]
    found = [decode_row(encode_row(row)) for row in rows for _ in range(3)]
    assert found == [row for row in rows for _ in range(3)]
    assert all(list(one) == ["name", "n", "x", "list", "none"] for one in found)
    assert all(gc.is_tracked(one) == isinstance(one["list"], list) for one in found)
    found[0]["new"] = 1
    del found[0]["n"]
    found[0]["name"] = None
    assert found[1] == rows[0] and list(found[0]) == ["name", "x", "list", "none", "new"]


def test_decoding_rows_keeps_nothing_of_them():
    image = encode_row({"a": None, "b": "text", "c": [1], "d": 7})
    for _ in range(3):
        decode_row(image)
    before = sys.getrefcount(None)
    for _ in range(5000):
        decode_row(image)
    assert abs(sys.getrefcount(None) - before) < 1000
