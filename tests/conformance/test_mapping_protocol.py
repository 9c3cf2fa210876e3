"""CPython's own tests of mappings (test.mapping_tests), run with `tc.Table` through an adapter.

The tests store texts, numbers, tuples and None; the adapter writes each as the bytes of its literal, and a value as the
one column of a row. Everything else goes to the table: each method named here is the table's own.

Left out, in `LEFT_OUT` by name: what needs keys or values that aren't bytes, or the very object back that was stored.
"""

from __future__ import annotations

import ast
import contextlib
import shutil
import tempfile
import unittest
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc

mapping_tests = pytest.importorskip("test.mapping_tests")

LEFT_OUT = {
    "test_fromkeys": "a table is opened under a path; there is nothing to make one from",
    "test_repr": "the repr of a table names its file, and not its rows",
    "test_repr_deep": "the repr of a table names its file, and not its rows",
    "TestMappingProtocol.test_setdefault": "changes the stored list in place; a row is a copy",
    "TestHashMappingProtocol.test_setdefault": "keys with a hash that raises; keys are bytes",
    "TestHashMappingProtocol.test_getitem": "keys with a hash or an equality that raises; keys are bytes",
    "TestHashMappingProtocol.test_pop": "keys with a hash that raises; keys are bytes",
    "TestHashMappingProtocol.test_eq": "keys with an equality that raises; keys are bytes",
}

directory: Path  # of the test that runs, and its open tables
opened: contextlib.ExitStack


def pack(key: object) -> bytes:
    return repr(key).encode()


def unpack(stored: bytes) -> Any:
    return ast.literal_eval(stored.decode())


class Mapped(MutableMapping[Any, Any]):
    """A table that holds literals."""

    made = 0

    def __init__(self, rows: Any = (), table: tc.Table | None = None, **more: Any) -> None:
        Mapped.made += 1
        self.table = table or tc.Table(directory / f"t{Mapped.made}", "n", bnum=100)
        opened.callback(self.table.close)
        self.update(rows, **more)

    def __getitem__(self, key: Any, /) -> Any:
        try:
            return unpack(self.table[pack(key)][b"v"])
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: Any, value: Any, /) -> None:
        self.table[pack(key)] = {b"v": pack(value)}

    def __delitem__(self, key: Any, /) -> None:
        del self.table[pack(key)]

    def __contains__(self, key: object, /) -> bool:
        return pack(key) in self.table

    def __iter__(self) -> Iterator[Any]:
        return map(unpack, iter(self.table))

    def __len__(self) -> int:
        return len(self.table)

    def get(self, key: Any, default: Any = None) -> Any:
        row = self.table.get(pack(key))
        return default if row is None else unpack(row[b"v"])

    def pop(self, key: Any, *default: Any) -> Any:
        row = self.table.pop(pack(key), *[{b"v": pack(value)} for value in default])
        return unpack(row[b"v"])

    def popitem(self) -> tuple[Any, Any]:
        key, row = self.table.popitem()
        return unpack(key), unpack(row[b"v"])

    def clear(self) -> None:
        self.table.clear()

    def copy(self) -> Mapped:
        Mapped.made += 1
        path = directory / f"t{Mapped.made}"
        self.table.copy(path)
        return Mapped(table=tc.Table(path, "w"))


class Adapter(unittest.TestCase):
    """A directory for each test, and the tests that are left out."""

    type2test = Mapped
    base = ""

    def setUp(self) -> None:
        global directory, opened
        name = f"{self.base}.{self._testMethodName}"
        for left_out in (name, self._testMethodName):
            if left_out in LEFT_OUT:
                self.skipTest(LEFT_OUT[left_out])
        directory = Path(tempfile.mkdtemp(prefix="kesto-mapping-"))
        self.addCleanup(shutil.rmtree, directory)
        opened = contextlib.ExitStack()
        self.addCleanup(opened.close)


class TestBasicMapping(Adapter, mapping_tests.BasicTestMappingProtocol):  # type: ignore[misc]
    base = "BasicTestMappingProtocol"


class TestMapping(Adapter, mapping_tests.TestMappingProtocol):  # type: ignore[misc]
    base = "TestMappingProtocol"


class TestHashMapping(Adapter, mapping_tests.TestHashMappingProtocol):  # type: ignore[misc]
    base = "TestHashMappingProtocol"


def test_only_what_is_named_is_left_out() -> None:
    names = {name for name in dir(mapping_tests.TestHashMappingProtocol) if name.startswith("test_")}
    assert {name.rpartition(".")[2] for name in LEFT_OUT} <= names
    assert len(names) - len(LEFT_OUT) > 12
