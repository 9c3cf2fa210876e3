"""Every error that pykesto raises.

    Error                               .retryable  .hint
    ├── UsageError (ValueError)         the caller's mistake
    │   ├── ClosedError                 a closed database, session or query
    │   ├── ReadOnlyError               a change through a read-only handle or session
    │   └── CodecError                  a value that can't be stored, or bytes that are no value; .path into it
    ├── ConcurrencyConflict             another commit changed what this one read or wrote; .conflicts
    │   ├── SnapshotExpired             the session was open past its lease
    │   └── StaleToken                  the row was changed since its k_token was made; not retryable
    ├── UniqueViolation                 .table .column .value .key
    ├── KeyExists (KeyError)            .table .key
    ├── NoResultFound (LookupError)     one() found nothing
    ├── MultipleResultsFound (LookupError)
    ├── LockTimeout (TimeoutError)      .holder_pid .waited_s
    ├── CommitUnknown                   nobody can know whether this commit will be there after recovery
    └── StorageError (OSError)          the world failed: full, read-only, failed sync; .errno
        ├── CorruptionError             .path .offset: the damaged file
        ├── FormatError                 a file of another format number, or a foreign directory
        └── tc.Error                    .code .operation .path of Tokyo Cabinet (in `pykesto.tc`)

The class answers whose fault it is, `retryable` whether the same work may be tried again, `hint` what to
do now. All of them can be pickled, fields included.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

__all__ = [
    "ClosedError",
    "CodecError",
    "CommitUnknown",
    "ConcurrencyConflict",
    "Conflict",
    "CorruptionError",
    "Error",
    "FormatError",
    "KeyExists",
    "LockTimeout",
    "MultipleResultsFound",
    "NoResultFound",
    "ReadOnlyError",
    "SnapshotExpired",
    "StaleToken",
    "StorageError",
    "UniqueViolation",
    "UsageError",
]


def _restore(cls: type[Error], args: tuple[Any, ...], state: dict[str, Any]) -> Error:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class Error(Exception):
    """The root of all errors of pykesto.

    Attributes:
        retryable: whether the same work, run again in a fresh session, may succeed.
        hint: one sentence on what to do now; may be empty.
    """

    retryable: bool = False
    hint: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else type(self).__name__
        return f"{message} ({self.hint})" if self.hint else message

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class UsageError(Error, ValueError):
    """The caller's mistake: the call can't succeed however often it is tried."""


class ClosedError(UsageError):
    """A closed database, session or query was used."""


class ReadOnlyError(UsageError):
    """A change was tried through a read-only handle or session."""


class CodecError(UsageError):
    """A value that can't be stored, or bytes that are no value.

    Attributes:
        path: where in the value it is, such as `['friends'][3]`; empty for the value itself.
    """

    path: str = ""

    def __init__(self, message: str, *, path: str = "", hint: str = "") -> None:
        super().__init__(f"at {path}: {message}" if path else message, hint=hint)
        self.path = path

    def of(self, owner: str) -> CodecError:
        """The same error, of a value within `owner`, which the message names."""
        error = CodecError(f"{owner}{self.path}: {self.args[0].removeprefix(f'at {self.path}: ')}", hint=self.hint)
        error.path = self.path
        return error


@dataclass(frozen=True, slots=True)
class Conflict:
    """One row, or one range or predicate of a table, that another commit changed.

    Attributes:
        table: the table's or class's name.
        key: the row's key, or None where a range or predicate conflicts.
        read_version: the number of the commit that this session read (0: there was no row).
        current_version: the number of the commit found now.
        detail: the range or predicate in words, for one without a key.
        note: what the other commit says of itself, or None.
        pid: the process that made it, or None where that is not known.
        time: when it was made, in UTC, by the clock of that process; or None.
    """

    table: str
    key: Any
    read_version: int
    current_version: int
    detail: str = ""
    note: str | None = None
    pid: int | None = None
    time: datetime | None = None

    def __str__(self) -> str:
        what = f"{self.table}[{self.key!r}]" if self.key is not None else f"{self.table} where {self.detail}"
        read = f"read at version {self.read_version}" if self.read_version else "not there before"
        return f"{what} ({read}) {self._by()}{self._who()}"

    def _by(self) -> str:
        return f"by version {self.current_version}" if self.current_version else "so that it is gone"

    def _who(self) -> str:
        """Whose commit it was, as far as it is known."""
        parts = [] if self.pid is None else [f"process {self.pid}"]
        if self.time is not None:
            parts.append(f"at {self.time.replace(tzinfo=None).isoformat(' ', 'milliseconds')} UTC")
        parts += [] if self.note is None else [repr(self.note)]
        return f" of {', '.join(parts)}" if parts else ""


class ConcurrencyConflict(Error):
    """Another commit changed what this session read or wrote; nothing was written.

    Attributes:
        conflicts: a tuple of `Conflict`, at most a few of all that there are.
    """

    retryable = True
    hint = "run the transaction again in a fresh session (db.run does), or commit(force=True)"

    def __init__(self, conflicts: Sequence[Conflict] = (), *, message: str = "", hint: str = "") -> None:
        self.conflicts = tuple(conflicts)
        super().__init__(message or "another commit changed " + "; ".join(map(str, self.conflicts)), hint=hint)


class StaleToken(ConcurrencyConflict):
    """The row was changed since the token was made that `apply` was given; trying again would not help."""

    retryable = False
    hint = "show the row as it is now, with its new k_token, to whoever edits it"


class SnapshotExpired(ConcurrencyConflict):
    """The session was open past its lease: the journal that would validate it is gone."""

    hint = "begin a new session; keep sessions short"


class UniqueViolation(Error):
    """A unique index has this value already.

    Attributes:
        table, column (a str, or a tuple of them), value, key (of the row that has the value).
    """

    hint = "choose another value, or change the row that has it"

    def __init__(self, table: str, column: str | tuple[str, ...], value: Any, key: Any) -> None:
        self.table, self.column, self.value, self.key = table, column, value, key
        columns = column if isinstance(column, str) else f"({', '.join(column)})"
        super().__init__(f"{table}.{columns} is unique, and {value!r} is in row {key!r} already")


class KeyExists(Error, KeyError):
    """`insert` found a row under the key."""

    hint = "assign table[key] to replace it"

    def __init__(self, table: str, key: Any) -> None:
        self.table, self.key = table, key
        super().__init__(f"{table}[{key!r}] exists already")


class NoResultFound(Error, LookupError):
    """`one()` found no row."""


class MultipleResultsFound(Error, LookupError):
    """`one()` or `one_or_none()` found more than one row."""


class LockTimeout(Error, TimeoutError):
    """Another process or thread held a lock for longer than `lock_timeout`; nothing was written.

    Attributes:
        holder_pid: the process that holds the lock, as it wrote it down (0: unknown).
        waited_s: how long this one waited, in seconds.
    """

    retryable = True

    def __init__(self, lock: str, *, holder_pid: int, waited_s: float) -> None:
        self.lock, self.holder_pid, self.waited_s = lock, holder_pid, waited_s
        holder = f"process {holder_pid}" if holder_pid else "an unknown process"
        super().__init__(
            f"{lock} is held by {holder}; waited {waited_s:.1f} s",
            hint="try again; if the holder is stopped, continue or kill it",
        )


class CommitUnknown(Error):
    """Nobody can know whether this commit will be there after recovery. It is never retried by itself."""

    hint = "close the database, open it again, and look whether the change is there"


class StorageError(Error, OSError):
    """The world failed: a full disk, a read-only file system, a failed sync.

    Attributes:
        errno: the operating system's number, or None.
        path: the file or directory, or None.
    """

    errno: int | None = None  # in the instance's dict, unlike OSError's slot, so that it is pickled with the rest
    path: str | None = None

    def __init__(self, message: str, *, errno: int | None = None, path: Any = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
        self.path = None if path is None else os.fspath(path)


class CorruptionError(StorageError):
    """A file holds what was never written there.

    Attributes:
        path: the damaged file.
        offset: the byte in it where the damage was found, or None.
    """

    def __init__(self, message: str, *, path: Any = None, offset: int | None = None, hint: str = "") -> None:
        where = "" if path is None else f"{os.fspath(path)}" + ("" if offset is None else f" at byte {offset}") + ": "
        super().__init__(where + message, path=path, hint=hint or "keep the directory as it is, and restore a backup")
        self.offset = offset


class FormatError(StorageError):
    """A file of another format number, or a directory that is no pykesto database."""
