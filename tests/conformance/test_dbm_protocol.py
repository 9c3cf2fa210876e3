"""CPython's own tests of dbm modules (test.test_dbm), run with `tc.Table` through an adapter.

A dbm maps keys to bytes: the adapter stores a value as the one column of a row, and gives `keys()` as a list, as dbm
modules do. `dbm.whichdb` tells files apart by their beginnings and doesn't know these, so it is told. None is left out.
"""

from __future__ import annotations

import dbm
import os
import sys
import types
import unittest
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from pykesto import tc

test_dbm = pytest.importorskip("test.test_dbm")

module = types.ModuleType("kesto_dbm", "What dbm.open takes for a dbm module.")


class Dbm(MutableMapping[bytes, bytes]):
    """A table of one column."""

    def __init__(self, path: Any, flag: Any) -> None:
        self.table = tc.Table(path, flag, bnum=100)
        self.close = self.table.close

    def __enter__(self) -> Dbm:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getitem__(self, key: bytes, /) -> bytes:
        return self.table[key][b"value"]

    def __setitem__(self, key: bytes, value: bytes, /) -> None:
        self.table[key] = {b"value": value}

    def __delitem__(self, key: bytes, /) -> None:
        del self.table[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    def keys(self) -> list[bytes]:  # type: ignore[override]
        return list(self.table)

    def setdefault(self, key: bytes, default: bytes | None = None) -> bytes:
        return self.table.setdefault(key, {b"value": default or b""})[b"value"]


def which(path: Any) -> str | None:
    return module.__name__ if os.path.exists(path) else None


module.error = tc.Error  # type: ignore[attr-defined]
module.open = lambda path, flag="r", mode=0o666: Dbm(path, flag)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def a_dbm_that_knows_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(dbm._modules, module.__name__, module)  # type: ignore[attr-defined]
    monkeypatch.setattr(dbm, "whichdb", which)


class TestTableAsDbm(test_dbm.AnyDBMTestCase, unittest.TestCase):  # type: ignore[misc]
    module = module

    def setUp(self) -> None:
        self._dict = dict(test_dbm.AnyDBMTestCase._dict)  # a test changes it
        super().setUp()
