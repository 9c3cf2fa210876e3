"""One base: a whole copy of the tables in Tokyo Cabinet, immutable while it is current or pinned.

Rows stand behind a checksum (`guard`). The primary key has a lexical index, which gives key order.
"""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from .. import tc
from ..errors import ClosedError, CorruptionError, StorageError
from ..failpoints import ACTIVE, hit, off
from ..files import breathe, remove, sync_directory, sync_file, translated
from ..store import IndexDefinition, Row
from .guard import pack_row, unpack_row
from .layout import Layout, files_in, table_file
from .manifest import Mark, Stamp, read_stamp, remove_stamp, write_stamp

_BATCH = 256
_FIRST_BUCKETS = 8191
_KEY_INDEX = b""


class Base:
    """A base opened for reading. The owner counts its users and closes it when there is none."""

    def __init__(self, layout: Layout, number: int, word: int) -> None:
        self.layout, self.number, self.word = layout, number, word
        self.stamp = read_stamp(layout, number)
        self.users = 0
        self.open_tables: dict[str, tc.Table] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def mark(self) -> Mark:
        return self.stamp.mark

    def _path(self, table: str) -> Path:
        return self.layout.base(self.number) / table_file(table)

    def table(self, name: str) -> tc.Table | None:
        """A table, opened for reading once; None if it is not here."""
        found = self.open_tables.get(name)
        if found is None and name in self.stamp.tables:
            with self._lock:
                if self._closed:
                    raise ClosedError(f"base {self.number} of {self.layout.directory} is closed")
                found = self.open_tables.get(name)
                if found is None:
                    found = self.open_tables[name] = tc.Table(self._path(name), "r", lock=False)
        return found

    def keys(self, table: str, lo: bytes | None, hi: bytes | None, *, reverse: bool) -> Iterator[bytes]:
        """The keys with lo <= key < hi, in order."""
        found = self.table(table)
        if found is None:
            return
        cursor = found.index_cursor(_KEY_INDEX)
        if reverse:
            cursor.seek_last() if hi is None else cursor.seek_before(hi)
        else:
            cursor.seek_first() if lo is None else cursor.seek(lo)
        while batch := cursor.prev_batch(_BATCH) if reverse else cursor.next_batch(_BATCH):
            for key, _ in batch:
                if (lo is not None and key < lo) if reverse else (hi is not None and key >= hi):
                    return
                yield key

    def find(self, table: str, column: str, lo: bytes, hi: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The (value, key) pairs of an index with lo <= value < hi, in order."""
        found = self.table(table)
        if found is None:
            return
        cursor = found.index_cursor(column.encode())
        cursor.seek(lo)
        while batch := cursor.next_batch(_BATCH):
            for value, key in batch:
                if value >= hi:
                    return
                yield value, key

    def indexed(self, table: str, column: str) -> bool:
        """A table that is not here has no rows to find, so any index serves."""
        indexes = self.stamp.tables.get(table)
        return indexes is None or any(index.column == column for index in indexes)

    def check(self) -> Iterator[str]:
        """What is wrong with the rows and indexes of this base, in words."""
        for name, indexes in self.stamp.tables.items():
            table = self.table(name)
            if table is None:
                continue
            expected: dict[bytes, set[tuple[bytes, bytes]]] = {index.column.encode(): set() for index in indexes}
            keys = set()
            for batch in table.raw_batches(_BATCH):
                for key, raw in batch:
                    keys.add(key)
                    try:
                        unpack_row(key, raw, table)
                    except CorruptionError as error:
                        yield str(error)
                    columns = table[key]
                    for column, entries in expected.items():
                        if column in columns:
                            entries.add((columns[column], key))
            yield from self._check_index(name, _KEY_INDEX, {(key, key) for key in keys})
            for column, entries in expected.items():
                yield from self._check_index(name, column, entries)

    def _check_index(self, name: str, column: bytes, expected: set[tuple[bytes, bytes]]) -> Iterator[str]:
        table = self.table(name)
        if table is None:
            return
        cursor = table.index_cursor(column)
        cursor.seek_first()
        found = set()
        while batch := cursor.next_batch(_BATCH):
            found.update(batch)
        if found != expected:
            what = f"index {column.decode()!r}" if column else "key index"
            extra, lacking = len(found - expected), len(expected - found)
            yield f"{self._path(name)}: {what} has {extra} entries too many, and lacks {lacking}"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for table in self.open_tables.values():
                table.close()
            self.open_tables.clear()


class Stopped(Exception):
    """The work on a base was asked to stop; the base has no stamp and will be made again."""


class BaseBuilder:
    """Brings a base that nobody uses forward. The caller holds checkpoint.lock.

    The stamp goes before the first write and comes back last, so a kill or power cut at any point leaves a base that
    nobody trusts. `stopping` is asked between batches.
    """

    def __init__(self, layout: Layout, number: int, *, mode: int, stopping: Callable[[], bool]) -> None:
        self.layout, self.number, self.mode, self.stopping = layout, number, mode, stopping
        self.directory = layout.base(number)

    def begin(self) -> None:
        with translated("create", self.directory):
            if not self.directory.is_dir():
                self.directory.mkdir(mode=self.mode | (self.mode & 0o444) >> 2)
                sync_directory(self.directory.parent)
        remove_stamp(self.layout, self.number)

    def clear(self) -> None:
        """Unlink every file: what a write-ahead log of a dead writer would roll back must not meet new files."""
        for path in files_in(self.directory):
            remove(path)

    def copy_from(self, source: Path) -> None:
        """Make this base a copy of the one in `source`, which is immutable."""
        self.clear()
        for path in files_in(source):
            if path.name != "STAMP":
                self._stop_if_asked()
                with translated("copy", path):
                    target = self.directory / path.name
                    shutil.copyfile(path, target)
                    target.chmod(self.mode)

    def apply(
        self, rows: Mapping[str, Mapping[bytes, Row | None]], schema: Mapping[str, tuple[IndexDefinition, ...]]
    ) -> None:
        """Put the newest images, each table in its own transaction; have just the tables and indexes of `schema`."""
        present = {path.name for path in files_in(self.directory)}
        for name in schema:
            if name in rows or table_file(name) not in present:
                self._apply_table(name, rows.get(name, {}), schema[name])
            elif self._indexes_differ(name, schema[name]):
                self._apply_table(name, {}, schema[name])
        wanted = {table_file(name) for name in schema}
        for file_name in present:
            if file_name.split(".tct")[0] + ".tct" not in wanted and file_name != "STAMP":
                remove(self.directory / file_name)

    def _indexes_differ(self, name: str, indexes: tuple[IndexDefinition, ...]) -> bool:
        with tc.Table(self.directory / table_file(name), "r", lock=False) as table:
            return set(table.indexes()) != {_KEY_INDEX} | {index.column.encode() for index in indexes}

    def _apply_table(self, name: str, rows: Mapping[bytes, Row | None], indexes: tuple[IndexDefinition, ...]) -> None:
        path = self.directory / table_file(name)
        with tc.Table(path, "c", bnum=_FIRST_BUCKETS, lock=False) as table:
            wanted = {_KEY_INDEX} | {index.column.encode() for index in indexes}
            for column in wanted - set(table.indexes()):
                table.create_index(column, "lexical")
            for column in set(table.indexes()) - wanted:
                table.drop_index(column)
            table.begin()
            try:
                self._put(table, rows)
            except BaseException:
                table.abort()
                raise
            table.commit()
            if len(table) > 2 * table.bnum:
                table.optimize(bnum=4 * len(table))
            table.sync()

    def _put(self, table: tc.Table, rows: Mapping[bytes, Row | None]) -> None:
        changes = iter(rows.items())
        while batch := list(islice(changes, _BATCH)):
            self._stop_if_asked()
            if ACTIVE:
                hit("checkpoint.write")
                batch = batch[off("checkpoint.rows") :]
            breathe()
            table.apply_raw([(key, None if row is None else pack_row(key, row)) for key, row in batch])

    def _stop_if_asked(self) -> None:
        if self.stopping():
            raise Stopped(f"base {self.number}")

    def finish(self, mark: Mark, schema: Mapping[str, tuple[IndexDefinition, ...]]) -> Stamp:
        """Sync every file and the directory, then stamp the base."""
        for path in files_in(self.directory):
            with translated("set the mode of", path):
                path.chmod(self.mode)  # the library makes files that everyone may read
            sync_file(path)
        sync_directory(self.directory)
        if ACTIVE:
            hit("checkpoint.stamp")
        stamp = Stamp(mark, secrets.token_hex(8), dict(schema))
        write_stamp(self.layout, self.number, stamp, mode=self.mode)
        return stamp

    def remove(self) -> None:
        """Take the whole base away."""
        remove_stamp(self.layout, self.number)
        self.clear()
        try:
            os.rmdir(self.directory)
        except OSError as error:
            raise StorageError(f"can't remove {self.directory}: {error.strerror}", errno=error.errno) from error
