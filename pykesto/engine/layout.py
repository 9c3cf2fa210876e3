"""The names in a database directory, and its creation.

MANIFEST          two alternating slots: the current base, and the version and stamp of each base
control           a page of words shared by all attached processes
*.lock            dedicated lock files, never deleted
attached/N        a locked file for each attached process
journal/          segments of the redo journal
base/N/           one copy of all tables, and its STAMP
"""

from __future__ import annotations

import errno
import hashlib
import os
import string
from pathlib import Path
from urllib.parse import quote

from ..errors import FormatError, StorageError, UsageError
from ..files import network_of, sync_directory, translated
from ..store import IndexDefinition

OWN_NAMES = frozenset(
    {
        "MANIFEST",
        "MANIFEST.new",
        "control",
        "attach.lock",
        "alive.lock",
        "commit.lock",
        "sync.lock",
        "checkpoint.lock",
        "turn.lock",
        "room.lock",
        "attached",
        "journal",
        "base",
    }
)
_PLAIN = frozenset(string.ascii_letters + string.digits + "_-")
_PATTERN = frozenset("*?[]\\")
_LONGEST_NAME = 100
_NAME_BYTES_MAX = 255


class Layout:
    """Paths in the directory of one database."""

    def __init__(self, directory: Path) -> None:
        if odd := sorted(set(str(directory)) & _PATTERN):
            raise UsageError(
                f"a database can't be in {directory}: Tokyo Cabinet takes {' '.join(odd)} in its path for a pattern",
                hint="choose a directory whose path has none of * ? [ ] and no backslash",
            )
        self.directory = directory
        self.manifest = directory / "MANIFEST"
        self.control = directory / "control"
        self.attached = directory / "attached"
        self.journal = directory / "journal"
        self.bases = directory / "base"

    def refuse_network(self) -> None:
        """StorageError if the directory, or that in which it is to be, is on a network file system."""
        with translated("look at", self.directory):
            place = next(path for path in (self.directory, *self.directory.parents) if path.exists())
        if name := network_of(place):
            raise StorageError(
                f"{self.directory} is on {name}: locks and shared memory are not dependable over a network",
                errno=errno.EREMOTE,
                path=self.directory,
                hint="use a disk of this machine, or open(..., network=True) if just one machine ever opens it",
            )

    def lock(self, name: str) -> Path:
        return self.directory / f"{name}.lock"

    def slot(self, number: int) -> Path:
        return self.attached / str(number)

    def base(self, number: int) -> Path:
        return self.bases / str(number)

    def stamp(self, number: int) -> Path:
        return self.base(number) / "STAMP"

    def require(self) -> None:
        """Refuse a directory that is missing or is no database's."""
        with translated("open database", self.directory):
            names = os.listdir(self.directory)
        foreign = sorted(set(names) - OWN_NAMES)
        if foreign and "MANIFEST" not in names:
            raise FormatError(
                f"{self.directory} is no pykesto database: it holds {', '.join(map(repr, foreign[:3]))}",
                path=self.directory,
                hint="give the path of a database, or of a directory that is empty or not there yet",
            )
        if not {"MANIFEST", "attach.lock"} & set(names):
            raise FormatError(f"{self.directory} is empty, and no pykesto database", path=self.directory)

    def create(self, mode: int) -> None:
        """Make the directory, if it is not there, and the folders in it. Any number may do so at once."""
        directory_mode = mode | (mode & 0o444) >> 2
        with translated("create database", self.directory):
            if not self.directory.is_dir():
                os.makedirs(self.directory.parent, exist_ok=True)
                self.directory.mkdir(mode=directory_mode, exist_ok=True)
                sync_directory(self.directory.parent)
            self._refuse_foreign()
            for folder in (self.attached, self.journal, self.bases):
                folder.mkdir(mode=directory_mode, exist_ok=True)
        sync_directory(self.directory)

    def _refuse_foreign(self) -> None:
        if set(os.listdir(self.directory)) - OWN_NAMES:
            self.require()


def table_file(table: str) -> str:
    """The file name of a table in a base: readable where the name is plain, never with a glob character."""
    if set(table) <= _PLAIN and len(table) <= _LONGEST_NAME:
        return f"{table}.tct"
    digest = hashlib.sha256(table.encode()).hexdigest()
    return f"={digest[:40]}.tct"


def entries_file(table: str, index: str) -> str:
    """The file name of the entries of an index that is not a plain column's."""
    digest = hashlib.sha256(f"{table}/{index}".encode()).hexdigest()
    return f"{table_file(table).removesuffix('.tct')[:60]}+{digest[:40]}.tct"


def files_in(directory: Path) -> list[Path]:
    """The plain files of a folder, or StorageError."""
    with translated("list", directory):
        return [directory / name for name in os.listdir(directory)]


def require_index_name(table: str, index: IndexDefinition) -> None:
    """Refuse a column whose index could have no file: the library puts the name, URL-encoded, into the file's."""
    column = index.columns[0]
    name = f"{table_file(table)}.idx.{quote(column, safe='')}.lex.wal"
    if index.is_plain and ("\0" in column or len(name) > _NAME_BYTES_MAX):
        raise UsageError(
            f"an index on a column named {column[:40]!r} (of {len(column)} characters) can't be kept: its file name "
            f"would hold a NUL or take {len(name)} bytes of {_NAME_BYTES_MAX}",
            hint="give the column a shorter name",
        )
