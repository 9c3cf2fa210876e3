"""One base: a whole copy of the tables in Tokyo Cabinet, immutable while it is current or pinned.

Rows stand behind a checksum, keys have a tail (`guard`). The primary key has a lexical index, which gives key order.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .. import tc
from ..codec.terms import terms
from ..errors import ClosedError, CorruptionError, StorageError
from ..failpoints import ACTIVE, hit, off
from ..files import copy_file, held_open, remove, sync_directory, translated
from ..store import IndexDefinition
from .guard import TAIL_BYTES, own_key, stored_key, unpack_row
from .layout import Layout, entries_file, files_in, table_file
from .manifest import Mark, Stamp, read_stamp, remove_stamp, write_stamp
from .newest import Images, images_of
from .snapshot import Used

_BATCH = 256
_AT_ONCE = 1024  # rows that are put without the interpreter
_FIRST_BUCKETS = 8191
_KEY_INDEX = b""
_ENTRY = b"\x01e\x01\x01"  # an entry is a key: the library wants a column too
_NO_IMAGES = images_of({})


def _library_indexes(indexes: tuple[IndexDefinition, ...]) -> set[bytes]:
    """The columns that the library itself indexes."""
    return {_KEY_INDEX} | {index.columns[0].encode() for index in indexes if index.is_plain}


class Base(Used):
    """A base opened for reading."""

    def __init__(self, layout: Layout, number: int, word: int) -> None:
        self.layout, self.number, self.word = layout, number, word
        self.stamp = read_stamp(layout, number)
        self.open_tables: dict[str, tc.Table] = {}
        self._entry_tables: dict[tuple[str, str], tc.Table] = {}
        self._pages: dict[tuple[str, str], tc.IndexPages] = {}
        self._lock = threading.RLock()  # a signal handler may close what it interrupts
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

    def pages(self, table: str, index: str) -> tc.IndexPages | None:
        """The pages of an index, by its name, for as long as this is open; "" is that of the keys. None: not here."""
        found = self._pages.get((table, index))
        if found is None:
            found = self._open_pages(table, index)
            if found is not None:
                self._pages[table, index] = found
        return found

    def _open_pages(self, table: str, index: str) -> tc.IndexPages | None:
        rows = self.table(table)
        if rows is None or not index:
            return None if rows is None else tc.IndexPages(rows, _KEY_INDEX, tail=TAIL_BYTES)
        definition = next((known for known in self.stamp.tables[table] if known.name == index), None)
        if definition is None:
            return None
        if definition.is_plain:
            return tc.IndexPages(rows, definition.columns[0].encode(), tail=TAIL_BYTES)
        return tc.IndexPages(self._entries(table, index), _KEY_INDEX, split=True, tail=TAIL_BYTES)

    def _entries(self, table: str, index: str) -> tc.Table:
        """The entries of an index that is not a plain column's."""
        with self._lock:
            if self._closed:
                raise ClosedError(f"base {self.number} of {self.layout.directory} is closed")
            found = self._entry_tables.get((table, index))
            if found is None:
                path = self.layout.base(self.number) / entries_file(table, index)
                found = self._entry_tables[table, index] = tc.Table(path, "r", lock=False)
            return found

    def holds(self, table: str) -> bool:
        """Whether the table is here. One that is not has no rows to find, so any index of it serves."""
        return table in self.stamp.tables

    def row_count(self, table: str) -> int:
        """How many rows of the table are here."""
        found = self.table(table)
        return 0 if found is None else len(found)

    def check(self) -> Iterator[str]:
        """What is wrong with the rows and indexes of this base, in words."""
        for name, indexes in self.stamp.tables.items():
            table = self.table(name)
            if table is not None:
                named = {index.name: index for index in indexes}
                yield from self._check_table(name, table, named)

    def _check_table(self, name: str, table: tc.Table, indexes: dict[str, IndexDefinition]) -> Iterator[str]:
        expected: dict[str, set[tuple[bytes, bytes]]] = {index: set() for index in indexes}
        keys = set()
        for batch in table.raw_batches(_BATCH):
            for stored, raw in batch:
                key = own_key(stored)
                keys.add((key, key))
                if stored_key(key) != stored:
                    yield f"{self._path(name)}: the key {key!r} has the tail of another"
                try:
                    row = unpack_row(stored, raw, table)
                    for index, definition in indexes.items():
                        expected[index].update((term, key) for term in terms(row.image, definition))
                except CorruptionError as error:
                    yield str(error)
        yield from self._check_index(name, "", keys)
        for index, entries in expected.items():
            yield from self._check_index(name, index, entries)

    def _check_index(self, name: str, index: str, expected: set[tuple[bytes, bytes]]) -> Iterator[str]:
        pages = self.pages(name, index)
        found = set() if pages is None else set(pages.entries())
        if found != expected:
            what = f"index {index!r}" if index else "key index"
            extra, lacking = len(found - expected), len(expected - found)
            yield f"{self._path(name)}: {what} has {extra} entries too many, and lacks {lacking}"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for table in [*self.open_tables.values(), *self._entry_tables.values()]:
                table.close()
            self.open_tables.clear()
            self._entry_tables.clear()
            self._pages.clear()


class Stopped(Exception):
    """The work on a base was asked to stop; the base has no stamp and will be made again."""


class BaseBuilder:
    """Brings a base that nobody uses forward. The caller holds checkpoint.lock.

    The stamp goes before the first write and comes back last, so a kill or power cut at any point leaves a base that
    nobody trusts. `stopping` is asked between batches. If it is done `gently`, the disk is mostly left to others.
    """

    def __init__(
        self, layout: Layout, number: int, *, mode: int, stopping: Callable[[], bool], gently: bool = True
    ) -> None:
        self.layout, self.number, self.mode, self.stopping, self.gently = layout, number, mode, stopping, gently
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

    def copy_from(self, source: Path) -> int:
        """Make this base a copy of the one in `source`, which is immutable; how many bytes that took."""
        self.clear()
        size = 0
        for path in files_in(source):
            if path.name != "STAMP":
                size += path.stat().st_size
                copy_file(
                    path,
                    self.directory / path.name,
                    mode=self.mode,
                    before_each=self._stop_if_asked,
                    gently=self.gently,
                )
        return size

    def apply(self, rows: Mapping[str, Images], schema: Mapping[str, tuple[IndexDefinition, ...]]) -> None:
        """Put the newest images, each table in its own transaction; have just the tables and indexes of `schema`."""
        present = {path.name for path in files_in(self.directory)}
        for name, indexes in schema.items():
            if name in rows or table_file(name) not in present or self._indexes_differ(name, indexes, present):
                self._apply_table(name, rows.get(name, _NO_IMAGES), indexes)
        wanted = {table_file(name) for name in schema} | {
            entries_file(name, index.name) for name, indexes in schema.items() for index in indexes
        }
        for file_name in present:
            if file_name.split(".tct")[0] + ".tct" not in wanted and file_name != "STAMP":
                remove(self.directory / file_name)

    def _indexes_differ(self, name: str, indexes: tuple[IndexDefinition, ...], present: set[str]) -> bool:
        if any(entries_file(name, index.name) not in present for index in indexes if not index.is_plain):
            return True
        with tc.Table(self.directory / table_file(name), "r", lock=False) as table:
            return set(table.indexes()) != _library_indexes(indexes)

    def _apply_table(self, name: str, rows: Images, indexes: tuple[IndexDefinition, ...]) -> None:
        derived = {index.name: index for index in indexes if not index.is_plain}
        with self._writable(self.directory / table_file(name)) as table:
            wanted = _library_indexes(indexes)
            for column in wanted - set(table.indexes()):
                table.create_index(column, "lexical")
            for column in set(table.indexes()) - wanted:
                table.drop_index(column)
            for index, definition in derived.items():
                self._apply_entries(table, self.directory / entries_file(name, index), definition, rows)
            self._write(table, lambda: self._put(table, rows))

    @contextmanager
    def _writable(self, path: Path) -> Iterator[tc.Table]:
        """A table to write to, made if need be. At the end of the block its files are on stable storage.

        They are synced once it is closed: while a file is mapped each page written back interrupts every thread.
        """
        with ExitStack() as held:
            with tc.Table(path, "c", bnum=_FIRST_BUCKETS, lock=False) as table:
                yield table
                files = [file for file in files_in(self.directory) if f"{file.name}.".startswith(f"{path.name}.")]
                sync = held.enter_context(held_open(files, gently=self.gently))
                for file in files:
                    with translated("set the mode of", file):
                        file.chmod(self.mode)  # the library makes files that everyone may read
            if not (ACTIVE and off("base.sync")):
                sync()

    def _write(self, table: tc.Table, changes: Callable[[], None]) -> None:
        """Make changes in one transaction; a table that has outgrown its buckets gets more."""
        table.begin()
        try:
            changes()
        except BaseException:
            table.abort()
            raise
        table.commit()
        if len(table) > table.bnum:
            table.optimize(bnum=8 * len(table))

    def _apply_entries(self, table: tc.Table, path: Path, index: IndexDefinition, rows: Images) -> None:
        """Bring the entries of an index forward, before the rows are; all of them, if it is new here."""
        new = not path.exists()
        with self._writable(path) as entries:
            if new:
                entries.create_index(_KEY_INDEX, "lexical")
                self._write(entries, lambda: self._list_all(table, entries, index))
            self._write(entries, lambda: self._list_changes(table, entries, index, rows))

    def _list_all(self, table: tc.Table, entries: tc.Table, index: IndexDefinition) -> None:
        for batch in table.raw_batches(_BATCH):
            self._stop_if_asked()
            for key, raw in batch:
                for term in terms(unpack_row(key, raw, table).image, index):
                    entries.put_raw(stored_key(term + b"\0" + own_key(key)), _ENTRY)

    def _list_changes(self, table: tc.Table, entries: tc.Table, index: IndexDefinition, rows: Images) -> None:
        for number, (key, row) in enumerate(rows.items()):
            if number % _BATCH == 0:
                self._stop_if_asked()
            stored = stored_key(key)
            raw = table.get_raw(stored)
            old = set(terms(unpack_row(stored, raw, table).image, index)) if raw is not None else set()
            new = set(terms(row.image, index)) if row is not None else set()
            for term in old - new:
                del entries[stored_key(term + b"\0" + key)]
            for term in new - old:
                entries.put_raw(stored_key(term + b"\0" + key), _ENTRY)

    def _put(self, table: tc.Table, rows: Images) -> None:
        for at in range(0, len(rows), _AT_ONCE):
            self._stop_if_asked()
            if ACTIVE:
                hit("checkpoint.write")
            skipped = int(ACTIVE and off("checkpoint.rows"))
            rows.apply(table, at + skipped, _AT_ONCE - skipped)

    def _stop_if_asked(self) -> None:
        if self.stopping():
            raise Stopped(f"base {self.number}")

    def finish(self, mark: Mark, schema: Mapping[str, tuple[IndexDefinition, ...]]) -> Stamp:
        """Sync the directory, whose files are, then stamp the base."""
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
